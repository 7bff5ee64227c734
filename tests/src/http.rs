//! One HTTP/1.1 request and its answer on a stream that the caller opened.
//!
//! The tests choose source ports, namespaces and Unix sockets themselves, which client libraries hide.
//! Bodies need a `Content-Length`, as all servers here send.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};

use crate::client::uninterrupted;

/// Largest head of an answer.
const HEAD_BYTES: usize = 16 * 1024;

/// Head of an answer and what was read behind it.
#[derive(Debug)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Length of the body.
    pub body_bytes: usize,
    /// First bytes of the body.
    pub body_start: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, `PUT` …
    pub method: &'a str,
    /// `Host` header.
    pub host: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Whether the connection is used again.
    pub keep_alive: bool,
    /// `If-Match` header: the revision that a write is made for.
    pub if_match: Option<u64>,
    /// JSON body; empty = none.
    pub body: &'a [u8],
}

/// Sends a request and reads the whole answer.
pub fn exchange(stream: &mut (impl Read + Write), request: Request<'_>) -> Result<Response> {
    send(stream, request)?;
    let head = read_head(stream)?;
    let mut body = head.body_start;
    let missing = head.body_bytes.saturating_sub(body.len());
    let read = stream.take(missing as u64).read_to_end(&mut body).context("reading the body")?;
    if read < missing {
        bail!("the connection ended {} bytes before the end of the body", missing - read);
    }
    Ok(Response { status: head.status, body })
}

/// Sends a request.
pub fn send(stream: &mut impl Write, request: Request<'_>) -> Result<()> {
    let Request { method, host, path, keep_alive, if_match, body } = request;
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let content = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
    };
    let condition = if_match.map(|revision| format!("If-Match: \"{revision}\"\r\n")).unwrap_or_default();
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n{condition}{content}\r\n"
    )
    .into_bytes();
    bytes.extend(body);
    stream.write_all(&bytes).context("sending the request")
}

/// Reads the head of the answer.
pub fn read_head(stream: &mut impl Read) -> Result<Head> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = uninterrupted(|| stream.read(&mut buffer)).context("reading the answer")?;
        if read == 0 {
            bail!("the connection ended after {} bytes of the answer's head", bytes.len());
        }
        bytes.extend(buffer.iter().take(read));
        if let Some(head) = parse_head(&bytes)? {
            return Ok(head);
        }
        if bytes.len() > HEAD_BYTES {
            bail!("the answer's head is larger than {HEAD_BYTES} bytes");
        }
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(bytes).context("the answer is not HTTP/1.1")? else {
        return Ok(None);
    };
    let status = response.code.context("the answer has no status")?;
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let body_bytes = match length {
        Some(header) => {
            let text = std::str::from_utf8(header.value).context("Content-Length")?;
            text.trim().parse().with_context(|| format!("Content-Length is `{text}`"))?
        }
        None if status == 204 || status == 304 => 0,
        None => bail!("the answer (status {status}) has no Content-Length"),
    };
    let body_start = bytes.get(end..).unwrap_or_default().to_vec();
    Ok(Some(Head { status, body_bytes, body_start }))
}
