//! Requests of HTTP, and redirects.

use std::net::SocketAddr;

use lbx_common::api::{Method, Monitor, MonitorKind};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{LOOPBACKS, monitor_of, steps_of};

/// A server that answers one connection after the other with these; gives the requests.
async fn server(answers: &'static [&'static str]) -> (SocketAddr, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind((LOOPBACKS[0], 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let mut stream = listener.accept().await.unwrap().0;
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n") {
                request.push(char::from(stream.read_u8().await.unwrap()));
            }
            requests.push(request);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    (address, task)
}

fn http() -> Monitor {
    monitor_of(MonitorKind::Http)
}

#[tokio::test]
async fn a_request_says_what_the_monitor_says() {
    let (address, server) = server(&["HTTP/1.1 204 No Content\r\n\r\n"; 2]).await;
    let plain = Monitor { expected_codes: Some("2xx".parse().unwrap()), ..http() };
    assert_eq!(steps_of(address, &plain).await.unwrap(), ["connect", "response"]);
    let header = [("host", vec!["a.example:8080"]), ("user-agent", vec!["me"]), ("x-a", vec!["1", "2"])];
    let header =
        header.map(|(name, values)| (name.to_owned(), values.into_iter().map(str::to_owned).collect()));
    let method = Some(Method::Head);
    let full = Monitor { method, path: Some("/a?b=c".to_owned()), header: header.into(), ..plain };
    steps_of(address, &full).await.unwrap();
    let requests = server.await.unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        requests[0],
        format!("GET / HTTP/1.1\r\nhost: {address}\r\nuser-agent: lbx/{version}\r\n\r\n")
    );
    assert_eq!(
        requests[1],
        "HEAD /a?b=c HTTP/1.1\r\nhost: a.example:8080\r\nuser-agent: me\r\nx-a: 1\r\nx-a: 2\r\n\r\n"
    );
}

#[tokio::test]
async fn the_body_is_searched_in_small_and_capital_letters() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nAll is OK";
    const CHUNKED: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nAll \r\n5\r\nis oK\r\n0\r\n\r\n";
    const UNTIL_THE_END: &str = "HTTP/1.0 200 OK\r\n\r\nAll is ok";
    let monitor = Monitor { expected_body: Some("IS ok".to_owned()), ..http() };
    let (address, _server) = server(&[OK, CHUNKED, UNTIL_THE_END]).await;
    for _ in 0..3 {
        assert_eq!(steps_of(address, &monitor).await.unwrap(), ["connect", "response", "body"]);
    }
}

#[tokio::test]
async fn what_is_no_right_response_is_named() {
    let body = Monitor { expected_body: Some("fine".to_owned()), ..http() };
    let follow = Monitor { follow_redirects: true, ..http() };
    for (monitor, answer, expected) in [
        (&http(), "HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP 503 Service Unavailable, expected 200"),
        (&http(), "HTTP/1.1 302 Found\r\nLocation: /a\r\n\r\n", "HTTP 302 Found, expected 200"),
        (&http(), "HTTP/1.1 200 OK\r\nX", "ended the connection before its response did"),
        (&http(), "SSH-2.0-OpenSSH_9.2\r\n", "invalid HTTP version parsed"),
        (
            &body,
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nno\r\n",
            "`fine` is not in the body, which begins with `no`",
        ),
        (
            &body,
            "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\nno",
            "ended the connection before its response did",
        ),
        (&follow, "HTTP/1.1 302 Found\r\n\r\n", "HTTP 302 Found to ``, which is no URL of HTTP"),
        (
            &follow,
            "HTTP/1.1 302 Found\r\nLocation: ftp://a/b\r\n\r\n",
            "HTTP 302 Found to `ftp://a/b`, which is no URL of HTTP",
        ),
    ] {
        let (address, _server) = server(Box::leak(Box::new([answer]))).await;
        let error = steps_of(address, monitor).await.unwrap_err();
        assert!(error.ends_with(expected) && !error.starts_with("not probed"), "{error}\n{expected}");
    }
}

#[tokio::test]
async fn redirects_are_followed_at_the_same_endpoint() {
    let (address, server) = server(&[
        "HTTP/1.1 301 Moved\r\nLocation: /b?c\r\n\r\n",
        "HTTP/1.1 307 Moved\r\nLocation: http://www.example/d\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ])
    .await;
    steps_of(address, &Monitor { follow_redirects: true, ..http() }).await.unwrap();
    let requests = server.await.unwrap();
    assert!(requests[1].starts_with(&format!("GET /b?c HTTP/1.1\r\nhost: {address}\r\n")), "{requests:?}");
    assert!(requests[2].starts_with("GET /d HTTP/1.1\r\nhost: www.example\r\n"), "{requests:?}");
}

#[tokio::test]
async fn redirects_have_an_end() {
    let (address, server) = server(&["HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"; 6]).await;
    let error = steps_of(address, &Monitor { follow_redirects: true, ..http() }).await.unwrap_err();
    assert_eq!(error, format!("more than 5 redirects, the last one to http://{address}/"));
    server.await.unwrap();
}
