//! Real servers for an origin: HAProxy for HTTP and HTTPS, dnsmasq for DNS, aiosmtpd for SMTP.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use lbx_tests::{netns::Netns, wait};

const PATIENCE: Duration = Duration::from_secs(20);

pub const HTTP: u16 = 8080;
pub const HTTPS: u16 = 8443;
pub const DNS: u16 = 5353;
pub const SMTP: u16 = 2525;
/// Says another thing than an SMTP server, first.
pub const BANNER: u16 = 2626;

/// The host that HAProxy has a certificate for.
pub const NAME: &str = "www.lbx.test";
/// A question to dnsmasq in DNS, for the address of `lbx.test`, and what is in the answer: 192.0.2.53.
pub const QUESTION: &str =
    r"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03lbx\x04test\x00\x00\x01\x00\x01";
pub const ANSWER: &str = r"\xc0\x00\x02\x35";

/// Processes that end with it.
pub struct Servers(Vec<Child>);

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Servers {
    /// Starts all in `netns`, on these addresses; returns when they listen.
    pub fn start(netns: &Netns, addresses: &[IpAddr], directory: &Path) -> Self {
        let config = directory.join("haproxy.cfg");
        fs::write(&config, haproxy(directory)).unwrap();
        let mut commands = Vec::new();
        let mut command = |program: &str, arguments: &[&str]| {
            let mut command = netns.command(program);
            command.args(arguments);
            commands.push(command);
        };
        command("haproxy", &["-db", "-f", config.to_str().unwrap()]);
        let dns = DNS.to_string();
        let dns_arguments = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"];
        let dns_more =
            ["--user=root", "--pid-file=", "--bind-dynamic", "--address=/lbx.test/192.0.2.53", "-p", &dns];
        command("dnsmasq", &[&dns_arguments[..], &dns_more].concat());
        for address in addresses {
            let listen = format!("{address}:{SMTP}");
            command("aiosmtpd", &["-n", "-c", "aiosmtpd.handlers.Sink", "-l", &listen]);
        }
        let children = commands.into_iter().map(|mut command| spawn(&mut command));
        let servers = Self(children.collect());
        // dnsmasq listens to TCP, too.
        for port in [HTTP, HTTPS, BANNER, SMTP, DNS] {
            for address in addresses {
                let address = SocketAddr::new(*address, port);
                wait::until(&format!("somebody listens on {address}"), PATIENCE, || {
                    Ok(netns.run(|| Ok(TcpStream::connect(address).is_ok()))?.then_some(()))
                })
                .unwrap();
            }
        }
        servers
    }
}

fn spawn(command: &mut Command) -> Child {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

/// A configuration of HAProxy that answers everything itself. Its key and certificate are in `server.pem`.
fn haproxy(directory: &Path) -> String {
    let pem = directory.join("server.pem");
    format!(
        "global
    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
frontend all
    bind :::{HTTP} v4v6
    bind :::{HTTPS} v4v6 ssl crt {pem}
    http-request return status 503 content-type text/plain string \"no\" if {{ path /broken }}
    http-request redirect location /healthz code 302 if {{ path /moved }}
    http-request redirect location https://{NAME}:{HTTPS}/healthz code 302 if {{ path /secure }}
    http-request return status 200 content-type text/plain lf-string \"%[req.hdr(host)] is Well\" if {{ path /healthz }}
    http-request return status 404
frontend banner
    mode tcp
    bind :::{BANNER} v4v6
    default_backend banner
backend banner
    mode tcp
    # Closes at once, without a word.
    tcp-request content reject
",
        pem = pem.display(),
    )
}
