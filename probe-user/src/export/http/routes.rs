//! What each path answers.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::time::timeout;

use super::{MetricsSource, body::body};
use crate::export::{
    negotiation::{Format, wants_gzip},
    prometheus::content_type,
};

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const PAGE: &str = include_str!("page.html");

/// Nothing on the page comes from elsewhere, and no browser shall be told otherwise.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The paths of the server; a scrape's text begins within `render` or it learns that it did not.
pub(super) fn router(source: Arc<dyn MetricsSource>, render: Duration) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(Arc::new(Shared { source, render }))
}

struct Shared {
    source: Arc<dyn MetricsSource>,
    render: Duration,
}

async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let format = Format::asked(&field(&headers, &header::ACCEPT));
    let gzip = wants_gzip(&field(&headers, &header::ACCEPT_ENCODING));
    let Ok(pieces) = timeout(shared.render, shared.source.render(format)).await else {
        return sentence(
            StatusCode::SERVICE_UNAVAILABLE,
            "The metrics were not ready in time; scrape again, and look at the load of the machine.",
        );
    };
    let mut response = answer(StatusCode::OK, content_type(format), body(pieces, gzip));
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// All lines of a list field as one (RFC 9110, 5.3); those that are no text are left out.
fn field(headers: &HeaderMap, name: &HeaderName) -> String {
    let lines: Vec<_> = headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
    lines.join(",")
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

/// The answer to whoever is no user.
pub(super) fn not_allowed_in() -> Response {
    let mut response = sentence(
        StatusCode::UNAUTHORIZED,
        "Name and password are wanted, of a user in the web configuration.",
    );
    let challenge = HeaderValue::from_static("Basic realm=\"flowprobe\", charset=\"UTF-8\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
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
    use super::*;

    #[test]
    fn a_reason_cannot_become_markup() {
        assert_eq!(escape("<b>&</b>"), "&lt;b&gt;&amp;&lt;/b&gt;");
    }
}
