//! The HTTP server: `/metrics`, `/-/healthy`, `/-/ready` and a page that says what this is.
//!
//! Reads a [`MetricsSource`] when asked. One request a connection, GET and HEAD only. A client can hold a connection
//! for [`Limits::total`] at most; the number of connections is bounded, and a new one displaces the one that has been
//! silent longest, so silent clients never lock an honest one out. Costs one task and at most 16 kB a connection,
//! besides the text being sent, which simultaneous scrapes share.

use std::{future::Future, io, pin::Pin, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use bytes::Bytes;
use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};

use self::connections::{Connections, Place};

mod connections;
mod routes;
#[cfg(test)]
mod tests;

/// The text of a scrape, to come; the error is one sentence.
pub type Rendered<'a> = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send + 'a>>;

/// What the server serves.
pub trait MetricsSource: Send + Sync {
    /// Whether connections are being observed.
    ///
    /// # Errors
    /// Why not, in one sentence.
    fn ready(&self) -> Result<(), String>;

    /// The metrics as of now, in Prometheus' text format. May be dropped before it is done; is not run twice at a time.
    fn render(&self) -> Rendered<'_>;
}

/// How much clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// … of these with a request that has arrived: each may hold the text of a scrape.
    pub answers: usize,
    /// Time for the head of the request.
    pub head: Duration,
    /// Time for the source to make the text.
    pub render: Duration,
    /// Time for everything, to the last byte of the answer.
    pub total: Duration,
    /// Time for answers under way when the server is told to end.
    pub drain: Duration,
}

impl Default for Limits {
    /// Prometheus gives a scrape 10 s by default; whoever scrapes should learn the reason before that.
    fn default() -> Self {
        Self {
            connections: 128,
            answers: 16,
            head: Duration::from_secs(5),
            render: Duration::from_secs(8),
            total: Duration::from_secs(10),
            drain: Duration::from_millis(500),
        }
    }
}

/// Head of a request, bytes; a longer one is answered with 431.
const HEAD_BYTES: usize = 16 * 1024;

/// Pause after the system refused a new connection for want of descriptors or memory.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown` is done, then for at most [`Limits::drain`] what is under way.
///
/// # Errors
/// The listener is broken for good.
pub async fn serve(
    listener: TcpListener,
    source: Arc<dyn MetricsSource>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_within(Limits::default(), listener, source, shutdown).await
}

/// As [`serve`], with other limits.
///
/// # Errors
/// The listener is broken for good.
pub async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    source: Arc<dyn MetricsSource>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut shutdown = pin!(shutdown);
    let service = TowerToHyperService::new(routes::router(source, limits.render));
    let connections = Arc::new(Connections::new(limits.connections, limits.answers));
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = tasks.join_next() => note_panic(ended),
            accepted = accept(&listener) => {
                let stream = accepted?;
                connections.open(|place| tasks.spawn(answer(stream, service.clone(), place, limits)));
            }
        }
    }
    drop(listener);
    connections.end_silent();
    let drained = timeout(limits.drain, async {
        while let Some(ended) = tasks.join_next().await {
            note_panic(ended);
        }
    });
    if drained.await.is_err() {
        tasks.shutdown().await;
    }
    Ok(())
}

/// Reads one request and answers it. Errors are the client's: it went away, spoke no HTTP, or was too slow.
async fn answer(stream: TcpStream, service: TowerToHyperService<Router>, place: Place, limits: Limits) {
    let service = service_fn(|request| {
        place.request_arrived();
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(limits.total, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::debug!("a client was not answered: {e}"),
        Err(_elapsed) => tracing::debug!("a client took longer than {:?} and was disconnected", limits.total),
    }
}

/// The next connection. What goes wrong for one connection, or passes, is no error of the server.
async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => return Ok(stream),
            Err(e) => match e.raw_os_error() {
                Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP) => return Err(e),
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    tracing::warn!("an HTTP client has to wait: {e}; raise the limit on open files");
                    sleep(REFUSED_PAUSE).await;
                }
                _ => tracing::debug!("a client left before it was accepted: {e}"),
            },
        }
    }
}

fn note_panic(ended: Result<(), JoinError>) {
    if let Err(e) = ended
        && e.is_panic()
    {
        tracing::error!("answering a client failed inside: {e}; please report this");
    }
}
