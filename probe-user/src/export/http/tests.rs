//! Honest and dishonest clients on real sockets of the loopback.

use std::{future::pending, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    task::JoinHandle,
};

use super::*;

/// What has not happened by then will not.
const PATIENCE: Duration = Duration::from_secs(30);
const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";

enum Text {
    Ready(Vec<Result<Bytes, String>>),
    /// Says that it was asked, then waits to be let go.
    Held(Arc<Notify>, Arc<Notify>),
    Never,
}

struct Source {
    ready: Result<(), String>,
    text: Text,
}

impl MetricsSource for Source {
    fn ready(&self) -> Result<(), String> {
        self.ready.clone()
    }

    fn render(&self, _format: Format) -> Rendered<'_> {
        Box::pin(async move {
            let pieces = match &self.text {
                Text::Ready(pieces) => pieces.clone(),
                Text::Held(asked, go) => {
                    asked.notify_one();
                    go.notified().await;
                    vec![Ok(Bytes::from_static(b"late 1\n"))]
                }
                Text::Never => pending().await,
            };
            Box::new(pieces.into_iter()) as Pieces
        })
    }
}

struct Server {
    addr: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    async fn start(limits: Limits, ready: Result<(), String>, text: Text) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel();
        let shutdown = async {
            let _ = ended.await;
        };
        let source = Arc::new(Source { ready, text });
        Self {
            addr,
            end: Some(end),
            task: tokio::spawn(serve_within(limits, listener.into(), None, source, shutdown)),
        }
    }

    async fn serving(limits: Limits, text: &'static [u8]) -> Self {
        Self::start(limits, Ok(()), Text::Ready(vec![Ok(Bytes::from_static(text))])).await
    }

    async fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn ask(&self, request: &str) -> String {
        whole(self.send(request).await).await.unwrap()
    }

    async fn finish(mut self) {
        self.end.take().unwrap().send(()).unwrap();
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }
}

/// Everything up to the end of the connection.
async fn whole(mut stream: TcpStream) -> io::Result<String> {
    let mut out = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut out)).await.expect("the server keeps the connection open")?;
    Ok(String::from_utf8(out).unwrap())
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Limits of which none but the number of connections can end anything in the time of a test.
fn patient() -> Limits {
    let long = Duration::from_secs(3600);
    Limits { connections: 16, answers: 4, head: long, render: long, total: long, drain: Duration::ZERO }
}

#[tokio::test]
async fn each_path_answers_as_documented() {
    let server = Server::serving(Limits::default(), b"a 1\n").await;
    let metrics = server.ask(SCRAPE).await;
    assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
    assert!(metrics.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{metrics}");
    assert!(metrics.contains("\r\ntransfer-encoding: chunked\r\n"), "{metrics}");
    assert!(metrics.ends_with("\r\n\r\n4\r\na 1\n\r\n0\r\n\r\n"), "{metrics}");

    let head = server.ask(&request("HEAD", "/metrics")).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");

    assert!(server.ask(&request("GET", "/-/healthy")).await.starts_with("HTTP/1.1 200 "));
    assert!(server.ask(&request("GET", "/-/ready")).await.starts_with("HTTP/1.1 200 "));
    let page = server.ask(&request("GET", "/")).await;
    assert!(page.contains("href=\"/metrics\"") && page.contains(env!("CARGO_PKG_VERSION")), "{page}");
    assert!(!page.contains("{state}") && !page.contains("//"), "nothing from elsewhere: {page}");

    let lost = server.ask(&request("GET", "/metric")).await;
    assert!(lost.starts_with("HTTP/1.1 404 ") && lost.ends_with("try /metrics.\n"), "{lost}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"] {
        let refused = server.ask(&request(method, "/metrics")).await;
        assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
        assert!(refused.to_ascii_lowercase().contains("\r\nallow: get,head\r\n"), "{refused}");
    }
    assert!(server.ask("what is this\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    let long = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(HEAD_BYTES));
    assert!(server.ask(&long).await.starts_with("HTTP/1.1 431 "));
    server.finish().await;
}

#[tokio::test]
async fn a_scrape_that_breaks_off_is_not_taken_for_whole() {
    // More than the server keeps before it sends.
    let long = "a 1\n".repeat(1 << 18);
    let pieces = vec![Ok(long.into()), Err("broken".to_owned())];
    let server = Server::start(Limits::default(), Ok(()), Text::Ready(pieces)).await;
    let broken = server.ask(SCRAPE).await;
    assert!(broken.starts_with("HTTP/1.1 200 ") && broken.contains("a 1\na 1\n"), "{} bytes", broken.len());
    assert!(!broken.ends_with("\r\n0\r\n\r\n"), "{} bytes", broken.len());
    server.finish().await;
}

#[tokio::test]
async fn what_is_not_ready_says_why_and_is_healthy() {
    let server =
        Server::start(Limits::default(), Err("No <hook> is attached.".to_owned()), Text::Never).await;
    let ready = server.ask(&request("GET", "/-/ready")).await;
    assert!(
        ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("\r\n\r\nNo <hook> is attached.\n"),
        "{ready}"
    );
    assert!(server.ask(&request("GET", "/-/healthy")).await.starts_with("HTTP/1.1 200 "));
    assert!(server.ask(&request("GET", "/")).await.contains("No &lt;hook&gt; is attached."));
    server.finish().await;
}

#[tokio::test]
async fn a_scrape_that_takes_too_long_is_told() {
    let limits = Limits { render: Duration::from_millis(1), ..patient() };
    let server = Server::start(limits, Ok(()), Text::Never).await;
    let answer = server.ask(SCRAPE).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("not ready in time"), "{answer}");
    server.finish().await;
}

#[tokio::test]
async fn silent_and_half_spoken_clients_lock_nobody_out() {
    let server = Server::serving(patient(), b"a 1\n").await;
    let mut silent = Vec::new();
    for said in [0, 1, SCRAPE.len() - 1].into_iter().cycle().take(150) {
        silent.push((server.send(&SCRAPE[..said]).await, said));
    }
    assert!(server.ask(SCRAPE).await.contains("\r\na 1\n\r\n0\r\n"));
    // The honest one took the place of the oldest but 15.
    let newest = silent.split_off(150 - 15);
    for (stream, _) in silent {
        // A reset, where half-spoken words were not read before, is an end too.
        assert_eq!(whole(stream).await.unwrap_or_default(), "");
    }
    for (mut stream, said) in newest {
        stream.write_all(&SCRAPE.as_bytes()[said..]).await.unwrap();
        assert!(whole(stream).await.unwrap().contains("\r\na 1\n\r\n0\r\n"), "the newest were waited for");
    }
    server.finish().await;
}

#[tokio::test]
async fn clients_that_never_read_lock_nobody_out() {
    // More than the buffers of both sockets take.
    static LARGE: [u8; 32 << 20] = [b'#'; 32 << 20];
    let server = Server::serving(patient(), &LARGE).await;
    let mut deaf = Vec::new();
    for _ in 0..10 {
        let stream = server.send(SCRAPE).await;
        // Its answer has begun.
        timeout(PATIENCE, stream.readable()).await.unwrap().unwrap();
        deaf.push(stream);
    }
    assert!(server.ask(&request("GET", "/-/healthy")).await.starts_with("HTTP/1.1 200 "));
    let mut cut = 0;
    for stream in deaf {
        let got = whole(stream).await.map_or(0, |text| text.len());
        cut += usize::from(got < LARGE.len());
    }
    assert_eq!(cut, 7, "of 11 answers 4 may be under way");
    server.finish().await;
}

#[tokio::test]
async fn slow_clients_are_ended_by_the_clock() {
    let limits = Limits { head: Duration::from_millis(20), ..patient() };
    let server = Server::serving(limits, b"a 1\n").await;
    let slow = server.send("GET /metrics HTT").await;
    assert!(!whole(slow).await.unwrap_or_default().contains("200"));
    server.finish().await;

    let limits = Limits { total: Duration::from_millis(20), ..patient() };
    let server = Server::start(limits, Ok(()), Text::Never).await;
    let slow = server.send(SCRAPE).await;
    assert_eq!(whole(slow).await.unwrap_or_default(), "");
    server.finish().await;
}

#[tokio::test]
async fn an_answer_under_way_is_finished_at_the_end_and_silence_is_not() {
    let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let limits = Limits { drain: PATIENCE, ..patient() };
    let text = Text::Held(Arc::clone(&asked), Arc::clone(&go));
    let mut server = Server::start(limits, Ok(()), text).await;
    let silent = server.send("").await;
    let scraper = server.send(SCRAPE).await;
    timeout(PATIENCE, asked.notified()).await.unwrap();

    server.end.take().unwrap().send(()).unwrap();
    assert_eq!(whole(silent).await.unwrap(), "");
    assert!(TcpStream::connect(server.addr).await.is_err(), "nobody listens any more");
    go.notify_one();
    assert!(whole(scraper).await.unwrap().contains("\r\nlate 1\n\r\n0\r\n"));
    timeout(PATIENCE, server.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn an_answer_that_never_comes_does_not_hold_the_end_up() {
    let asked = Arc::new(Notify::new());
    let text = Text::Held(Arc::clone(&asked), Arc::new(Notify::new()));
    let server = Server::start(Limits { drain: Duration::from_millis(20), ..patient() }, Ok(()), text).await;
    let scraper = server.send(SCRAPE).await;
    timeout(PATIENCE, asked.notified()).await.unwrap();
    server.finish().await;
    assert_eq!(whole(scraper).await.unwrap_or_default(), "");
}
