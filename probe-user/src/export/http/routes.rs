//! What each path answers.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use tokio::{sync::Mutex, time::timeout};

use super::MetricsSource;
use crate::export::prometheus::CONTENT_TYPE;

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const PAGE: &str = include_str!("page.html");

/// Nothing on the page comes from elsewhere, and no browser shall be told otherwise.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The paths of the server; a scrape gets its text within `render` or learns that it did not.
pub(super) fn router(source: Arc<dyn MetricsSource>, render: Duration) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(Arc::new(Shared::new(source, render)))
}

struct Shared {
    source: Arc<dyn MetricsSource>,
    render: Duration,
    begun: AtomicU64,
    last: Mutex<Last>,
}

/// The last text of a scrape, as long as somebody is being sent it, and the how-manieth it was.
#[derive(Default)]
struct Last {
    number: u64,
    text: Weak<Bytes>,
}

struct Held(Arc<Bytes>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Shared {
    fn new(source: Arc<dyn MetricsSource>, render: Duration) -> Self {
        Self { source, render, begun: AtomicU64::new(0), last: Mutex::default() }
    }

    /// The text of a scrape that began after this call. Calls that wait for each other share one.
    async fn scrape(&self) -> Result<Bytes, String> {
        let begun_before = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.number > begun_before
            && let Some(text) = last.text.upgrade()
        {
            return Ok(Bytes::from_owner(Held(text)));
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let text = Arc::new(self.source.render().await?);
        *last = Last { number, text: Arc::downgrade(&text) };
        Ok(Bytes::from_owner(Held(text)))
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match timeout(shared.render, shared.scrape()).await {
        Ok(Ok(text)) => answer(StatusCode::OK, CONTENT_TYPE, text),
        Ok(Err(reason)) => sentence(StatusCode::SERVICE_UNAVAILABLE, &reason),
        Err(_elapsed) => sentence(
            StatusCode::SERVICE_UNAVAILABLE,
            "The metrics were not ready in time; scrape again, and look at the load of the machine.",
        ),
    }
}

async fn healthy() -> Response {
    sentence(StatusCode::OK, "flowprobe is running.")
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    match shared.source.ready() {
        Ok(()) => sentence(StatusCode::OK, "flowprobe is observing connections."),
        Err(reason) => sentence(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
}

async fn page(State(shared): State<Arc<Shared>>) -> Response {
    let state = match shared.source.ready() {
        Ok(()) => "Observing connections.".to_owned(),
        Err(reason) => escape(&reason),
    };
    let text = PAGE.replace("{version}", env!("CARGO_PKG_VERSION")).replace("{state}", &state);
    answer(StatusCode::OK, HTML, text)
}

async fn not_found() -> Response {
    sentence(StatusCode::NOT_FOUND, "There is no such page here; try /metrics.")
}

/// The router adds `Allow`.
async fn not_allowed() -> Response {
    sentence(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are answered here.")
}

fn sentence(status: StatusCode, text: &str) -> Response {
    answer(status, PLAIN, format!("{}\n", text.trim_end()))
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<axum::body::Body>) -> Response {
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (status, headers, body.into()).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;
    use crate::export::http::Rendered;

    /// Each scrape waits to be let go and gives its number.
    #[derive(Default)]
    struct Counting {
        scrapes: AtomicU64,
        go: Notify,
    }

    impl MetricsSource for Counting {
        fn ready(&self) -> Result<(), String> {
            Ok(())
        }

        fn render(&self) -> Rendered<'_> {
            Box::pin(async {
                let number = self.scrapes.fetch_add(1, Ordering::SeqCst) + 1;
                self.go.notified().await;
                Ok(number.to_string().into())
            })
        }
    }

    #[tokio::test]
    async fn scrapes_that_wait_share_one_that_began_after_they_came() {
        let source = Arc::new(Counting::default());
        let shared = Shared::new(Arc::<Counting>::clone(&source), Duration::from_secs(60));
        // join! starts them in order: the first begins, the others find it under way.
        let all = async {
            tokio::join!(shared.scrape(), shared.scrape(), shared.scrape(), async {
                source.go.notify_one();
                tokio::task::yield_now().await;
                source.go.notify_one();
            })
        };
        let (first, second, third, ()) =
            timeout(Duration::from_secs(30), all).await.expect("a third scrape began");
        assert_eq!(first.unwrap(), "1", "its own");
        assert_eq!(
            (second.unwrap(), third.unwrap()),
            ("2".into(), "2".into()),
            "not the one from before they came"
        );
        assert_eq!(source.scrapes.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_reason_cannot_become_markup() {
        assert_eq!(escape("<b>&</b>"), "&lt;b&gt;&amp;&lt;/b&gt;");
    }
}
