//! The API over TCP: who has the right certificate can do all, and nobody else anything.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use lbx_common::api::ConfigDocument;
use lbx_tests::{
    agent::{Agent, Source, binary},
    config,
    process::{Finished, finish},
    topology::{LBX_PUBLIC, Topology},
    wait,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring, pki_types::pem::PemObject as _,
};

const PATIENCE: Duration = Duration::from_secs(15);
const PORT: u16 = 9470;

/// An authority, with the files of those whom it vouches for.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        fs::create_dir_all(folder).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(folder.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) }
    }

    fn ca(&self) -> String {
        self.folder.join("ca.pem").to_str().unwrap().to_owned()
    }

    /// Files of a certificate for `host` that ends in `last_year`.
    fn certify(&self, name: &str, host: &str, last_year: i32) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_after = date_time_ymd(last_year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = ["cert", "key"].map(|kind| self.folder.join(format!("{name}-{kind}.pem")));
        fs::write(&files[0], certificate.pem()).unwrap();
        fs::write(&files[1], key.serialize_pem()).unwrap();
        files.map(|file| file.to_str().unwrap().to_owned())
    }
}

/// An agent that listens, the authority of its users, and one of them.
struct Served {
    agent: Agent,
    topology: Topology,
    authority: Authority,
    user: [String; 2],
}

impl Served {
    fn start() -> Self {
        let topology = Topology::new().unwrap();
        let agent = Agent::new(&topology, Source::Store).unwrap();
        let authority = Authority::new(&agent.directory().join("tls"), "operators");
        let [cert, key] = authority.certify("agent", &LBX_PUBLIC.to_string(), 2100);
        let user = authority.certify("user", "alice", 2100);
        let (listen, ca) = (format!("0.0.0.0:{PORT}"), authority.ca());
        agent
            .start_with_arguments(&[
                "--listen",
                &listen,
                "--tls-cert",
                &cert,
                "--tls-key",
                &key,
                "--tls-client-ca",
                &ca,
            ])
            .unwrap();
        Self { agent, topology, authority, user }
    }

    /// `lbx-ctl` on the client's machine, with these files.
    fn command(&self, [cert, key]: &[String; 2], ca: &str, arguments: &[&str]) -> Command {
        let mut command = self.topology.client_netns.command(binary("lbx-ctl").unwrap());
        let server = format!("https://{LBX_PUBLIC}:{PORT}");
        command.args(["--server", &server, "--cert", cert, "--key", key, "--ca", ca]).args(arguments);
        command
    }

    fn ctl(&self, files: &[String; 2], ca: &str, arguments: &[&str]) -> Finished {
        finish(&mut self.command(files, ca, arguments), PATIENCE).unwrap()
    }

    /// As the right user.
    fn ctl_as_user(&self, arguments: &[&str]) -> Finished {
        self.ctl(&self.user, &self.authority.ca(), arguments)
    }

    /// A connection from the client's machine that has said nothing yet.
    fn connect(&self) -> TcpStream {
        let stream = self.topology.client_netns.run(|| Ok(TcpStream::connect((LBX_PUBLIC, PORT))?)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A metric with this name and labels; 0 where it is not there yet.
    fn metric(&self, name: &str) -> f64 {
        let page = self.agent.request("GET", "/metrics", b"").unwrap();
        let page = String::from_utf8(page.body).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    fn connections(&self, result: &str) -> f64 {
        self.metric(&format!("lbx_api_connections_total{{result=\"{result}\"}}"))
    }
}

#[test]
fn the_right_certificate_can_do_everything() {
    let served = Served::start();
    let file = served.agent.directory().join("new.yaml");
    fs::write(&file, config::to_yaml(&config::whole()).unwrap()).unwrap();
    let applied = served.ctl_as_user(&["apply", "-f", file.to_str().unwrap()]);
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let found: ConfigDocument = served.agent.get("/v1/config").unwrap();
    assert_eq!(found.config, config::whole());
    let pools = served.ctl_as_user(&["get", "pools"]);
    assert!(pools.code == Some(0) && pools.stdout.contains("east-web"), "{pools:?}");
    served.agent.wait_until_healthy(PATIENCE).unwrap();

    // A command that goes on: it prints again when something changes.
    let mut watch = served.command(&served.user, &served.authority.ca(), &["health", "--watch", "east-web"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("east-web/a") && line.contains(" healthy ")));
    let disabled = served.ctl_as_user(&["endpoint", "disable", "east-web/a"]);
    assert_eq!(disabled.code, Some(0), "{disabled:?}");
    assert!(lines.any(|line| line.starts_with("east-web/a") && line.contains(" disabled ")));
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(served.connections("accepted") >= 4.0);
}

#[test]
fn nobody_else_gets_anything_and_each_is_told_why() {
    let served = Served::start();
    let folder = |name: &str| served.agent.directory().join(name);
    let [others, namesakes] = [("others", "others"), ("namesakes", "operators")]
        .map(|(place, name)| Authority::new(&folder(place), name));
    let ca = served.authority.ca();
    for (files, ca, told) in [
        (&others.certify("user", "mallory", 2100), &ca, "it is not signed by the agent's --tls-client-ca"),
        (&namesakes.certify("user", "mallory", 2100), &ca, "it is not signed by the agent's --tls-client-ca"),
        (&served.user, &namesakes.ca(), "the agent's certificate is not signed by the authority in"),
        (&served.authority.certify("old", "bob", 2001), &ca, "it has expired"),
        (&served.user, &others.ca(), "the agent's certificate is not signed by the authority in"),
    ] {
        let finished = served.ctl(files, ca, &["get", "pools"]);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(3), ""), "{told}: {finished:?}");
        assert!(finished.stderr.contains(told), "{told}: {}", finished.stderr);
    }
    // By a name that is not in the agent's certificate, and where nobody listens.
    let [cert, key] = &served.user;
    for (netns, server, told) in [
        (&served.topology.lbx, format!("localhost:{PORT}"), "the agent's certificate is for another name"),
        (&served.topology.client_netns, format!("{LBX_PUBLIC}:{}", PORT + 1), "nobody listens there"),
    ] {
        let mut command = netns.command(binary("lbx-ctl").unwrap());
        let url = format!("https://{server}");
        command.args(["--server", &url, "--cert", cert, "--key", key, "--ca", &ca, "status"]);
        let finished = finish(&mut command, PATIENCE).unwrap();
        assert!(finished.code == Some(3) && finished.stderr.contains(told), "{told}: {finished:?}");
    }
    // Without TLS, and without a certificate.
    let mut stream = served.connect();
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: lbx\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // Whether it ends with a reset or not does not matter.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.len() < 100 && !String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
    let error = without_certificate(&served).unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    assert!(served.connections("refused") >= 4.0);
    assert!(served.connections("accepted") < 1.0);
    assert!(served.agent.log().contains("is refused: "), "{}", served.agent.log());
}

/// Asks as somebody who trusts the agent and shows nothing.
fn without_certificate(served: &Served) -> std::io::Result<usize> {
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(served.authority.ca()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = SocketAddr::from((LBX_PUBLIC, PORT)).ip().into();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, served.connect());
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: lbx\r\n\r\n")?;
    stream.read_to_end(&mut Vec::new())
}

#[test]
fn clients_that_say_nothing_are_closed_and_cost_others_nothing() {
    let served = Served::start();
    let silent = [(); 20].map(|()| served.connect());
    assert_eq!(served.ctl_as_user(&["status"]).code, Some(0));
    for mut stream in silent {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed by the agent");
    }
    wait::until("they are counted", PATIENCE, || Ok((served.connections("silent") >= 20.0).then_some(())))
        .unwrap();
}

#[test]
fn new_certificates_are_taken_and_broken_ones_are_not() {
    const END: &str = "lbx_api_certificate_expiry_timestamp_seconds";
    let served = Served::start();
    let ends_in = |secs: f64| {
        wait::until("the certificate is in force", PATIENCE, || {
            Ok(((served.metric(END) - secs).abs() < 1.0).then_some(()))
        })
        .unwrap();
        assert_eq!(served.ctl_as_user(&["status"]).code, Some(0));
    };
    ends_in(4_102_444_800.0);
    // The files are replaced; nobody tells the agent.
    let [cert, key] = served.authority.certify("agent", &LBX_PUBLIC.to_string(), 2200);
    ends_in(7_258_118_400.0);
    let sound = fs::read(&key).unwrap();
    fs::write(&key, "broken").unwrap();
    served.agent.hang_up().unwrap();
    wait::until("the broken key is told", PATIENCE, || {
        Ok(served.agent.log().contains(&format!("stay as they were: --tls-key {key}")).then_some(()))
    })
    .unwrap();
    ends_in(7_258_118_400.0);
    fs::write(&key, sound).unwrap();
    assert!(Path::new(&cert).exists());
    served.agent.hang_up().unwrap();
    ends_in(7_258_118_400.0);
}

#[test]
fn wrong_options_and_files_are_told_before_anything_starts() {
    let topology = Topology::new().unwrap();
    let agent = Agent::new(&topology, Source::Store).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = agent.run_command().unwrap();
        finish(command.args(arguments), PATIENCE).unwrap()
    };
    let alone = run(&["--listen", "192.0.2.1:9470"]);
    assert!(alone.code == Some(2) && alone.stderr.contains("--tls-client-ca"), "{alone:?}");
    let files =
        ["--tls-cert", "/nonexistent/cert", "--tls-key", "/nonexistent/key", "--tls-client-ca", "/dev/null"];
    let missing = run(&[&["--listen", "192.0.2.1:9470"], &files[..]].concat());
    assert_eq!(missing.code, Some(1), "{missing:?}");
    for told in [
        "--tls-cert /nonexistent/cert: cannot read it: No such file",
        "--tls-key /nonexistent/key: cannot read it",
        "--tls-client-ca /dev/null: cannot read it: it is not a regular file",
    ] {
        assert!(missing.stderr.contains(told), "{told}: {}", missing.stderr);
    }
}
