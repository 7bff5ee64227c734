//! SMTP (RFC 5321): is greeted, greets, and takes its leave.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::{Path, ProbeError, Steps, quoted, socket::judge, tcp};

/// Longest reply, with all its lines: RFC 5321 §4.5.3.1.5 has 512 bytes for each.
const MAX_REPLY_BYTES: u64 = 16 * 1024;

/// Gives the time that the session took.
pub(super) async fn probe(
    path: Path<'_>,
    target: SocketAddr,
    steps: &mut Steps,
) -> Result<Duration, ProbeError> {
    let (stream, connect) = tcp::connect(path, target, steps).await?;
    let mut session = Session { stream: BufReader::new(stream), path, target };
    steps.wait_for("the greeting");
    let greeting = session.reply("220", "the greeting").await?;
    let greeted = steps.finish("greeting", || greeting);
    steps.wait_for("the answer to EHLO");
    session.say(&format!("EHLO {}\r\n", literal(path.source))).await?;
    let answer = session.reply("250", "the answer to EHLO").await?;
    let answered = steps.finish("EHLO", || answer);
    // Who is not told has a connection that broke off in its log.
    steps.wait_for("the answer to QUIT");
    session.say("QUIT\r\n").await?;
    let answer = session.reply("221", "the answer to QUIT").await?;
    let left = steps.finish("QUIT", || answer);
    Ok(connect + greeted + answered + left)
}

/// An address as a name (RFC 5321 §4.1.3).
fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

struct Session<'a> {
    stream: BufReader<TcpStream>,
    path: Path<'a>,
    target: SocketAddr,
}

impl Session<'_> {
    async fn say(&mut self, command: &str) -> Result<(), ProbeError> {
        let said = self.stream.write_all(command.as_bytes()).await;
        said.map_err(|error| judge(&error, self.target, self.path.device))
    }

    /// Takes a reply of any number of lines, which must have this code. Gives its last line.
    async fn reply(&mut self, code: &str, what: &str) -> Result<String, ProbeError> {
        let mut limited = (&mut self.stream).take(MAX_REPLY_BYTES);
        loop {
            let mut line = Vec::new();
            let read = limited.read_until(b'\n', &mut line).await;
            read.map_err(|error| judge(&error, self.target, self.path.device))?;
            let text = String::from_utf8_lossy(&line);
            let line = quoted(text.trim_end());
            let is_whole = text.ends_with('\n');
            if !is_whole {
                let message = format!("{} ended the connection within {what}: `{line}`", self.target);
                return Err(ProbeError::Endpoint(message));
            }
            if !line.starts_with(code) {
                return Err(ProbeError::Endpoint(format!("{what} is `{line}`, expected code {code}")));
            }
            // Another line follows where a `-` does (RFC 5321 §4.2.1).
            if line.as_bytes().get(code.len()) != Some(&b'-') {
                return Ok(line);
            }
        }
    }
}
