//! Sessions of SMTP.

use std::net::{IpAddr, SocketAddr};

use lbx_common::api::MonitorKind;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use super::{LOOPBACKS, monitor_of, steps_of};

/// A server that says these, each but the first after a line of the client; gives what the client said.
async fn server(
    loopback: IpAddr,
    says: &'static [&'static str],
) -> (SocketAddr, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind((loopback, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        let mut heard = Vec::new();
        for (index, reply) in says.iter().enumerate() {
            if index > 0 {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                heard.push(line);
            }
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
        heard
    });
    (address, task)
}

#[tokio::test]
async fn a_session_begins_and_ends_politely() {
    for (loopback, name) in LOOPBACKS.into_iter().zip(["[127.0.0.1]", "[IPv6:::1]"]) {
        let says = &["220-a\r\n220 b\r\n", "250-a\r\n250-SIZE 1\r\n250 HELP\r\n", "221 bye\r\n"];
        let (address, server) = server(loopback, says).await;
        let steps = steps_of(address, &monitor_of(MonitorKind::Smtp)).await.unwrap();
        assert_eq!(steps, ["connect", "greeting", "EHLO", "QUIT"]);
        assert_eq!(server.await.unwrap(), [format!("EHLO {name}\r\n"), "QUIT\r\n".to_owned()]);
    }
}

#[tokio::test]
async fn what_is_no_right_answer_is_quoted() {
    for (says, expected) in [
        (&["554 go away\r\n"][..], "the greeting is `554 go away`, expected code 220"),
        (&["220 a\r\n", "502 what\r\n"], "the answer to EHLO is `502 what`, expected code 250"),
        (&["220 a\r\n", "250 b\r\n", "500 c\r\n"], "the answer to QUIT is `500 c`, expected code 221"),
        (&["220 cut"], "ended the connection within the greeting: `220 cut`"),
        (&[""], "ended the connection within the greeting: ``"),
    ] {
        let (address, server) = server(LOOPBACKS[0], says).await;
        let error = steps_of(address, &monitor_of(MonitorKind::Smtp)).await.unwrap_err();
        assert!(error.ends_with(expected), "{error}");
        server.await.unwrap();
    }
}
