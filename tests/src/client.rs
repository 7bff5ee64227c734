//! The client: real sockets in the client's namespace, with source ports that the test chooses.

use std::{
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use socket2::{Domain, Socket, Type};

use crate::{
    family::Family,
    http::{self, Request},
    netns::Netns,
    path_mtu::Discovery,
    servers::{HTTP_PORT, UDP_PORT, pattern},
};

/// Time for a connect, and for each wait for bytes, unless [`Client::with_timeout`] says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(3);

/// Who answered, and what it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Virtual network of the origin, by its own account.
    pub vnet: String,
    /// Name of the origin.
    pub origin: String,
    /// Private address of the origin, of the family that it was asked in.
    pub address: IpAddr,
    /// The client as the origin saw it.
    pub seen_client: SocketAddr,
    /// The client's own end of the connection.
    pub own_address: SocketAddr,
    /// What followed (the payload of a UDP exchange).
    pub payload: Vec<u8>,
}

/// A client in a namespace.
#[derive(Clone)]
pub struct Client {
    netns: Netns,
    timeout: Duration,
    discovery: Discovery,
    address: Option<IpAddr>,
}

impl Client {
    /// A client in `netns`, with [`TIMEOUT`].
    pub fn new(netns: &Netns) -> Self {
        Self { netns: netns.clone(), timeout: TIMEOUT, discovery: Discovery::On, address: None }
    }

    /// The same client with another timeout.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The same client with another attitude to path MTU discovery.
    #[must_use]
    pub fn with_discovery(self, discovery: Discovery) -> Self {
        Self { discovery, ..self }
    }

    /// The same client with another of its namespace's addresses.
    #[must_use]
    pub fn with_address(self, address: impl Into<IpAddr>) -> Self {
        Self { address: Some(address.into()), ..self }
    }

    /// `GET /` at port 80 of `vip` from `source_port` (0 = any), on a connection of its own.
    pub fn http_get(&self, vip: impl Into<IpAddr>, source_port: u16) -> Result<Answer> {
        let mut connection = self.connect(vip, HTTP_PORT, source_port)?;
        let answer = connection.request("/", false)?;
        // The origin closes first, so the source port is free again at once.
        connection.wait_for_end()?;
        Ok(answer)
    }

    /// Opens a TCP connection.
    pub fn connect(&self, vip: impl Into<IpAddr>, port: u16, source_port: u16) -> Result<Connection> {
        let to = SocketAddr::new(vip.into(), port);
        self.open(to, source_port, None).with_context(|| format!("http://{to} from port {source_port}"))
    }

    /// Sends `payload` to UDP port 53 of `vip` from `source_port` (0 = any) and waits for the answer.
    pub fn udp_exchange(&self, vip: impl Into<IpAddr>, source_port: u16, payload: &[u8]) -> Result<Answer> {
        let to = SocketAddr::new(vip.into(), UDP_PORT);
        let exchange = || -> Result<Answer> {
            let socket = self.udp_socket(to, source_port)?;
            socket.send(payload).context("sending")?;
            let mut buffer = vec![0; 65_536];
            let length = uninterrupted(|| socket.recv(&mut buffer)).map_err(|error| self.explain(error))?;
            parse_answer(buffer.get(..length).unwrap_or_default(), socket.local_addr()?)
        };
        exchange().with_context(|| format!("udp {to} from port {source_port}"))
    }

    /// A UDP socket that sends to `to` and takes answers from there only.
    pub fn udp_socket(&self, to: SocketAddr, source_port: u16) -> Result<UdpSocket> {
        let socket = UdpSocket::from(self.socket(Family::of(to.ip()), Type::DGRAM, source_port)?);
        socket.set_read_timeout(Some(self.timeout))?;
        socket.connect(to)?;
        Ok(socket)
    }

    /// `POST /bytes` with `count` bytes, all of which must arrive.
    pub fn upload(&self, vip: impl Into<IpAddr>, source_port: u16, count: u64) -> Result<()> {
        let to = SocketAddr::new(vip.into(), HTTP_PORT);
        let upload = || -> Result<()> {
            let mut connection = self.open(to, source_port, None)?;
            let body: Vec<u8> = (0..count).map(pattern).collect();
            let host = &connection.host;
            let request = Request {
                method: "POST",
                host,
                path: "/bytes",
                keep_alive: false,
                if_match: None,
                body: &body,
            };
            let response = http::exchange(&mut connection.stream, request)?;
            ensure!(response.status == 200, "status {}: other bytes arrived", response.status);
            ensure!(response.body == count.to_string().as_bytes(), "{:?} bytes arrived", response.body);
            connection.wait_for_end()
        };
        upload().with_context(|| format!("{count} bytes to http://{to} from port {source_port}"))
    }

    /// Starts `GET /bytes/COUNT`; the body is read by [`Download`] at the test's own pace.
    pub fn download(&self, vip: impl Into<IpAddr>, source_port: u16, count: u64) -> Result<Download> {
        // A small window, so that a transfer that the test pauses really stands still.
        let to = SocketAddr::new(vip.into(), HTTP_PORT);
        let mut connection = self.open(to, source_port, Some(64 * 1024))?;
        connection.send(&format!("/bytes/{count}"), false)?;
        let head = http::read_head(&mut connection.stream)?;
        ensure!(head.status == 200, "status {} for /bytes/{count}", head.status);
        let mut download = Download { connection, count, position: 0 };
        download.check(&head.body_start)?;
        Ok(download)
    }

    /// A socket with a timeout calls it `EAGAIN`, which tells a reader nothing.
    fn explain(&self, error: io::Error) -> anyhow::Error {
        if error.kind() == io::ErrorKind::WouldBlock {
            anyhow!("no answer within {:?}", self.timeout)
        } else {
            error.into()
        }
    }

    fn open(&self, to: SocketAddr, source_port: u16, receive_buffer: Option<usize>) -> Result<Connection> {
        let socket = self.socket(Family::of(to.ip()), Type::STREAM, source_port)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect_timeout(&to.into(), self.timeout).context("cannot connect")?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        let host = match to.ip() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        Ok(Connection { stream, host })
    }

    fn socket(&self, family: Family, kind: Type, source_port: u16) -> Result<Socket> {
        let (domain, any) = match family {
            Family::V4 => (Domain::IPV4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            Family::V6 => (Domain::IPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        };
        self.netns.run(|| {
            let socket = Socket::new(domain, kind, None)?;
            self.discovery.apply(&socket, family)?;
            socket.set_reuse_address(true)?;
            let from = SocketAddr::new(self.address.unwrap_or(any), source_port);
            socket.bind(&from.into()).with_context(|| format!("cannot bind port {source_port}"))?;
            Ok(socket)
        })
    }
}

/// A TCP connection to an HTTP server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    host: String,
}

impl Connection {
    /// `GET /`, leaving the connection open: it can be used again, or stay idle.
    pub fn get(&mut self) -> Result<Answer> {
        self.request("/", true)
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn request(&mut self, path: &str, keep_alive: bool) -> Result<Answer> {
        let request =
            Request { method: "GET", host: &self.host, path, keep_alive, if_match: None, body: &[] };
        let response = http::exchange(&mut self.stream, request)?;
        ensure!(response.status == 200, "status {} for {path}", response.status);
        parse_answer(&response.body, self.stream.local_addr()?)
    }

    fn send(&mut self, path: &str, keep_alive: bool) -> Result<()> {
        let request =
            Request { method: "GET", host: &self.host, path, keep_alive, if_match: None, body: &[] };
        http::send(&mut self.stream, request)
    }

    fn wait_for_end(&mut self) -> Result<()> {
        let read = uninterrupted(|| self.stream.read(&mut [0; 1]))
            .context("waiting for the end of the connection")?;
        ensure!(read == 0, "there are bytes behind the answer");
        Ok(())
    }
}

/// A running download; every byte is checked as it comes.
#[derive(Debug)]
pub struct Download {
    connection: Connection,
    count: u64,
    position: u64,
}

impl Download {
    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads on until `position` bytes have come (or the end).
    pub fn read_to(&mut self, position: u64) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        while self.position < position.min(self.count) {
            let read = uninterrupted(|| self.connection.stream.read(&mut buffer));
            let read = read.with_context(|| format!("after {} of {} bytes", self.position, self.count))?;
            ensure!(read != 0, "the connection ended after {} of {} bytes", self.position, self.count);
            self.check(buffer.get(..read).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Reads all that is left and the end of the connection.
    pub fn finish(mut self) -> Result<()> {
        self.read_to(self.count)?;
        self.connection.wait_for_end()
    }

    fn check(&mut self, bytes: &[u8]) -> Result<()> {
        for &byte in bytes {
            if byte != pattern(self.position) {
                bail!("byte {} is {byte:#04x} instead of {:#04x}", self.position, pattern(self.position));
            }
            self.position += 1;
        }
        Ok(())
    }
}

/// Does it again where a signal came in between, which a wait with a time limit reports instead of going on.
pub fn uninterrupted<T>(mut wait: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match wait() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn parse_answer(bytes: &[u8], own_address: SocketAddr) -> Result<Answer> {
    let mut parts = bytes.splitn(5, |byte| *byte == b' ');
    let mut word = |what: &str| -> Result<&str> {
        let part = parts.next().with_context(|| format!("the answer has no {what}"))?;
        std::str::from_utf8(part).with_context(|| format!("{what} of the answer")).map(str::trim_end)
    };
    let (vnet, origin) = (word("vnet")?.to_owned(), word("origin")?.to_owned());
    let address = word("address")?.parse().context("address of the origin")?;
    let seen = word("client")?;
    let seen_client = seen.strip_prefix("client=").and_then(|seen| seen.parse().ok());
    let seen_client = seen_client.with_context(|| format!("`{seen}` is not client=ADDRESS:PORT"))?;
    let payload = parts.next().unwrap_or_default().to_vec();
    Ok(Answer { vnet, origin, address, seen_client, own_address, payload })
}
