//! The HTTP server: `/metrics`, `/-/healthy`, `/-/ready` and a page that says what this is.
//!
//! Reads a [`MetricsSource`] when asked, over TCP or a unix socket, with TLS and users where a [`Web`] configuration says so.
//! One request a connection, GET and HEAD only. A client can hold a connection for [`Limits::total`] at most, a TLS
//! handshake included; the number of connections is bounded, and a new one displaces the one that has been silent longest,
//! so clients that are silent or not allowed never displace the answer to one that is allowed. Costs one task and at most
//! 16 kB a connection (with TLS, a handshake message of 64 kB too, rustls' bound), besides two pieces of a scrape's text and
//! the snapshot that it is made of.

use std::{future::Future, io, pin::Pin, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::header,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

pub use self::listen::{Bound, Listener};
use self::{
    connections::{Connections, Place},
    listen::Accepted,
};
use super::{
    negotiation::Format,
    web::{Access, Web},
};

mod body;
mod connections;
mod listen;
mod routes;
#[cfg(test)]
mod tests;

/// The body of a scrape; an error is one sentence, and its end.
pub type Pieces = Box<dyn Iterator<Item = Result<Bytes, String>> + Send>;

/// The body of a scrape, to come.
pub type Rendered<'a> = Pin<Box<dyn Future<Output = Pieces> + Send + 'a>>;

/// What the server serves.
pub trait MetricsSource: Send + Sync {
    /// Whether connections are being observed.
    ///
    /// # Errors
    /// Why not, in one sentence.
    fn ready(&self) -> Result<(), String>;

    /// The metrics as of now. May be dropped before it is done.
    fn render(&self, format: Format) -> Rendered<'_>;
}

/// How much clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// … of these with a request that is allowed: each may hold the snapshot of a scrape.
    pub answers: usize,
    /// Time for a TLS handshake, and again for the head of the request.
    pub head: Duration,
    /// Time for the source to begin the text.
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

/// Serves until `shutdown` is done, then for at most [`Limits::drain`] what is under way. Without `web` everybody is
/// answered, in plain HTTP.
///
/// # Errors
/// The listener is broken for good.
pub async fn serve(
    listener: Listener,
    web: Option<Arc<Web>>,
    source: Arc<dyn MetricsSource>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_within(Limits::default(), listener, web, source, shutdown).await
}

/// As [`serve`], with other limits.
///
/// # Errors
/// The listener is broken for good.
pub async fn serve_within(
    limits: Limits,
    listener: Listener,
    web: Option<Arc<Web>>,
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
                let (accepted, service, web) = (accepted?, service.clone(), web.clone());
                connections.open(|place| match accepted {
                    Accepted::Tcp(stream) => tasks.spawn(answer(stream, service, web, place, limits)),
                    Accepted::Unix(stream) => tasks.spawn(answer(stream, service, web, place, limits)),
                });
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

/// What a connection can be made of.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

type Routes = TowerToHyperService<Router>;

/// Reads one request and answers it, all in the time that there is. Errors are the client's: it went away, spoke no HTTP
/// or no TLS, or was too slow.
async fn answer(stream: impl Stream, routes: Routes, web: Option<Arc<Web>>, place: Place, limits: Limits) {
    let answered = timeout(limits.total, async {
        let Some(web) = web else { return exchange(stream, &routes, None, &place, limits).await };
        let access = web.current().await;
        let Some(tls) = &access.tls else {
            return exchange(stream, &routes, Some((&web, &access)), &place, limits).await;
        };
        let handshake = timeout(limits.head, TlsAcceptor::from(Arc::clone(tls)).accept(stream));
        let stream = handshake.await.map_err(|_elapsed| "the TLS handshake took too long".to_owned())?;
        let stream = stream.map_err(|e| format!("the TLS handshake failed: {e}"))?;
        exchange(stream, &routes, Some((&web, &access)), &place, limits).await
    });
    match answered.await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => tracing::debug!("a client was not answered: {reason}"),
        Err(_elapsed) => tracing::debug!("a client took longer than {:?} and was disconnected", limits.total),
    }
}

/// One request and its answer.
async fn exchange(
    stream: impl Stream,
    routes: &Routes,
    web: Option<(&Arc<Web>, &Arc<Access>)>,
    place: &Place,
    limits: Limits,
) -> Result<(), String> {
    let service = service_fn(async |request: Request<Incoming>| {
        let Some((web, access)) = web else {
            place.request_arrived();
            return routes.call(request).await;
        };
        // Who waits for a password to be checked counts as silent: wrong ones take no place from a scrape.
        let allowed = web.is_allowed(access, request.headers().get(header::AUTHORIZATION)).await;
        let mut response = if allowed {
            place.request_arrived();
            routes.call(request).await?
        } else {
            routes::not_allowed_in().into_response()
        };
        set_headers(&mut response, access);
        Ok(response)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(|e| e.to_string())
}

fn set_headers(response: &mut Response<Body>, access: &Access) {
    for (name, value) in &access.headers {
        match value {
            Some(value) => drop(response.headers_mut().insert(name, value.clone())),
            None => drop(response.headers_mut().remove(name)),
        }
    }
}

/// The next connection. What goes wrong for one connection, or passes, is no error of the server.
async fn accept(listener: &Listener) -> io::Result<Accepted> {
    loop {
        match listener.accept().await {
            Ok(accepted) => return Ok(accepted),
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
