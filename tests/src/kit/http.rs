//! The smallest HTTP/1.1 client that can scrape: one request a connection, body read to the end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// A server that does not answer in this time has failed.
const PATIENCE: Duration = Duration::from_secs(15);

/// What Prometheus accepts first when it wants native histograms.
pub const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// Status, headers and body of a response.
#[derive(Clone, Debug)]
pub struct Answer<Body = String> {
    /// The status code, such as 200.
    pub status: u16,
    /// Header lines as sent, without the status line.
    pub head: String,
    /// The body, de-chunked.
    pub body: Body,
}

/// GET `path` of the server at `addr`.
///
/// # Errors
/// When it cannot be reached, or answers with something that is not HTTP.
pub fn get(addr: SocketAddr, path: &str) -> Result<Answer> {
    text(fetch(addr, path, &[])?)
}

/// GET `path` with these headers; the body may be anything.
///
/// # Errors
/// As [`get`].
pub fn fetch(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Answer<Vec<u8>>> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    request(addr, &format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{headers}\r\n"))
}

/// The body of a GET that has to be answered with 200.
///
/// # Errors
/// As [`get`], and on any other status.
pub fn get_text(addr: SocketAddr, path: &str) -> Result<String> {
    let answer = get(addr, path)?;
    if answer.status != 200 {
        bail!("GET {path} of {addr} gave {}: {}", answer.status, answer.body);
    }
    Ok(answer.body)
}

/// POST a form to `path`.
///
/// # Errors
/// As [`get`].
pub fn post(addr: SocketAddr, path: &str, form: &str) -> Result<Answer> {
    text(request(
        addr,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ),
    )?)
}

fn text(answer: Answer<Vec<u8>>) -> Result<Answer> {
    Ok(Answer { status: answer.status, head: answer.head, body: String::from_utf8(answer.body)? })
}

fn request(addr: SocketAddr, text: &str) -> Result<Answer<Vec<u8>>> {
    let mut stream =
        TcpStream::connect_timeout(&addr, PATIENCE).with_context(|| format!("cannot connect to {addr}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(text.as_bytes())?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).with_context(|| format!("cannot read the answer of {addr}"))?;
    parse(&raw).with_context(|| format!("{addr} did not answer in HTTP"))
}

fn parse(raw: &[u8]) -> Result<Answer<Vec<u8>>> {
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n").context("the header has no end")?;
    let head = String::from_utf8(raw[..end].to_vec())?;
    let (status_line, head) = head.split_once("\r\n").unwrap_or((&head, ""));
    let status = status_line.split(' ').nth(1).context("no status code")?.parse()?;
    let chunked =
        head.lines().any(|line| line.to_ascii_lowercase().replace(' ', "") == "transfer-encoding:chunked");
    let body = &raw[end + 4..];
    let body = if chunked { dechunk(body)? } else { body.to_vec() };
    Ok(Answer { status, head: head.to_owned(), body })
}

fn dechunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").context("a chunk has no size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?.trim(), 16)?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(rest.get(..size).context("a chunk is cut short")?);
        rest = rest.get(size + 2..).context("a chunk has no end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_chunked_bodies_are_the_same() {
        let plain = parse(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello").unwrap();
        let chunked =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
                .unwrap();
        assert_eq!((plain.status, &plain.body[..]), (200, &b"hello"[..]));
        assert_eq!(chunked.body, plain.body);
    }
}
