//! The bodies of scrapes: made once for all who wait at the same time, in the form that each asks for.

use std::{
    io::Write as _,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use tokio::{
    sync::{Mutex, OnceCell},
    task,
};

use super::MetricsSource;
use crate::export::negotiation::Format;

/// Makes bodies, one at a time.
pub(super) struct Bodies {
    source: Arc<dyn MetricsSource>,
    begun: AtomicU64,
    last: Mutex<[Last; 2]>,
}

/// The last body of a format, as long as somebody is being sent it, and the how-manieth of all it was.
#[derive(Default)]
struct Last {
    number: u64,
    body: Weak<Body>,
}

/// What a scrape gave.
pub(super) struct Body {
    plain: Bytes,
    gzip: OnceCell<Bytes>,
}

/// Keeps the body for others while its bytes are being sent.
struct Held {
    bytes: Bytes,
    _body: Arc<Body>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bodies {
    pub(super) fn new(source: Arc<dyn MetricsSource>) -> Self {
        Self { source, begun: AtomicU64::new(0), last: Mutex::default() }
    }

    /// The body of a scrape that began after this call. Calls of one format that wait for each other share one.
    pub(super) async fn scrape(&self, format: Format) -> Result<Arc<Body>, String> {
        let begun_before = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        let last = &mut last[match format {
            Format::Text => 0,
            Format::Protobuf => 1,
        }];
        if last.number > begun_before
            && let Some(body) = last.body.upgrade()
        {
            return Ok(body);
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let body = Arc::new(Body { plain: self.source.render(format).await?, gzip: OnceCell::new() });
        *last = Last { number, body: Arc::downgrade(&body) };
        Ok(body)
    }
}

impl Body {
    /// As it is.
    pub(super) fn plain(self: Arc<Self>) -> Bytes {
        Bytes::from_owner(Held { bytes: self.plain.clone(), _body: self })
    }

    /// Compressed, by whoever asks first; `None` if that failed.
    pub(super) async fn gzip(self: Arc<Self>) -> Option<Bytes> {
        let bytes = self.gzip.get_or_try_init(|| compressed(self.plain.clone())).await.ok()?.clone();
        Some(Bytes::from_owner(Held { bytes, _body: self }))
    }
}

/// Off the threads that answer: megabytes take tens of milliseconds.
async fn compressed(plain: Bytes) -> Result<Bytes, ()> {
    let work = move || {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        out.write_all(&plain)?;
        out.finish()
    };
    let reason = match task::spawn_blocking(work).await {
        Ok(Ok(bytes)) => return Ok(bytes.into()),
        Ok(Err(e)) => e.to_string(),
        Err(e) => e.to_string(),
    };
    tracing::error!("a scrape is sent uncompressed: {reason}; please report this");
    Err(())
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, time::Duration};

    use flate2::read::GzDecoder;
    use tokio::{join, sync::Semaphore, time::timeout};

    use super::*;
    use crate::export::http::Rendered;

    /// Each scrape waits to be let go and gives its number.
    struct Counting {
        scrapes: AtomicU64,
        go: Semaphore,
    }

    impl MetricsSource for Counting {
        fn ready(&self) -> Result<(), String> {
            Ok(())
        }

        fn render(&self, format: Format) -> Rendered<'_> {
            Box::pin(async move {
                let number = self.scrapes.fetch_add(1, Ordering::SeqCst) + 1;
                self.go.acquire().await.unwrap().forget();
                Ok(format!("{number} {format:?}").into())
            })
        }
    }

    #[tokio::test]
    async fn scrapes_that_wait_share_one_that_began_after_they_came() {
        let source = Arc::new(Counting { scrapes: AtomicU64::new(0), go: Semaphore::new(0) });
        let bodies = Bodies::new(Arc::<Counting>::clone(&source) as _);
        let scrape = async |format| {
            let body = bodies.scrape(format).await.unwrap();
            (Arc::as_ptr(&body), body.plain())
        };
        // join! starts them in order: the first begins, the others find it under way.
        let all = async {
            join!(
                scrape(Format::Text),
                scrape(Format::Text),
                scrape(Format::Text),
                scrape(Format::Protobuf),
                async { source.go.add_permits(3) }
            )
        };
        let (first, second, third, other, ()) =
            timeout(Duration::from_secs(30), all).await.expect("a fourth scrape began");
        assert_eq!(first.1, "1 Text", "its own");
        assert_eq!(second.1, "2 Text", "not the one from before it came");
        assert_eq!(third, second);
        assert_eq!(other.1, "3 Protobuf");
        assert_eq!(source.scrapes.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn what_is_compressed_is_compressed_once_and_is_the_same() {
        let plain = "flowprobe_build_info 1\n".repeat(10_000);
        let body = Arc::new(Body { plain: plain.clone().into(), gzip: OnceCell::new() });
        let (one, two) = join!(Arc::clone(&body).gzip(), body.gzip());
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one.as_ptr(), two.as_ptr());
        let mut text = String::new();
        GzDecoder::new(&one[..]).read_to_string(&mut text).unwrap();
        assert!(text == plain && one.len() * 50 < plain.len(), "{} bytes", one.len());
    }
}
