//! The API is what its OpenAPI document says: schemathesis, which knows nothing but the document, finds no server error and
//! no answer that is not in it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeMap,
    env, fs, net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use lbx_tests::{
    agent::{Agent, Source},
    netns::Netns,
    process::finish,
    takes_long,
    topology::Topology,
};
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

/// Its process takes half of that on two busy processors.
const PATIENCE: Duration = Duration::from_secs(300);
const LONG_PATIENCE: Duration = Duration::from_secs(3600);

/// `schemathesis` of this checkout, which the set-up installs.
fn schemathesis() -> PathBuf {
    let target = env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let program = target.join("tools/schemathesis/bin/schemathesis");
    assert!(program.exists(), "{} is missing: `cargo xtask setup` installs it", program.display());
    program
}

/// Makes the agent's socket a port of its namespace, since schemathesis speaks TCP only. Returns the port.
fn bridge(netns: &Netns, socket: PathBuf) -> u16 {
    let listener = netns.run(|| Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connect(stream, socket.clone()));
            }
        });
    });
    port
}

async fn connect(mut client: TcpStream, socket: PathBuf) {
    let Ok(mut agent) = UnixStream::connect(socket).await else { return };
    // A side that hangs up ends it, and that is all there is to know.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut agent).await;
}

#[test]
fn schemathesis_finds_the_api_as_it_is_documented() {
    let topology = Topology::new().unwrap();
    let agent = Agent::new(&topology, Source::Store).unwrap();
    // The interfaces of the document's example.
    for device in ["eth0", "eth1"] {
        topology.lbx.ip(&format!("link add {device} type veth peer name far-{device}")).unwrap();
        for end in [device.to_owned(), format!("far-{device}")] {
            topology.lbx.ip(&format!("link set {end} up")).unwrap();
        }
    }
    agent.start().unwrap();
    let port = bridge(&topology.lbx, agent.socket());
    let calls = agent.directory().join("calls");
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemathesis");
    let url = format!("http://127.0.0.1:{port}");
    let mut command: Command = topology.lbx.command(schemathesis());
    command.current_dir(agent.directory()).arg("--config-file").arg(files.join("schemathesis.toml"));
    command.args(["run", &format!("{url}/v1/openapi.json"), "--url", &url, "--seed", "6", "--no-color"]);
    command.args(["--max-examples", if takes_long() { "100" } else { "5" }]);
    command.env("SCHEMATHESIS_HOOKS", files.join("hooks.py")).env("LBX_URL", &url).env("LBX_CALLS", &calls);
    let end = finish(&mut command, if takes_long() { LONG_PATIENCE } else { PATIENCE }).unwrap();
    println!("{}\n{}", end.stdout, end.stderr);
    assert_eq!(end.code, Some(0), "{}", agent.log());

    let (calls, document) = (fs::read_to_string(calls).unwrap(), agent.get::<Value>("/v1/openapi.json").unwrap());
    let mut best: BTreeMap<(String, String), Vec<u16>> = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            best.insert((path.clone(), method.to_uppercase()), Vec::new());
        }
    }
    for line in calls.lines() {
        let mut words = line.split(' ');
        let (method, path, status) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        if let Some(statuses) = best.get_mut(&(path.to_owned(), method.to_owned())) {
            statuses.push(status.parse().unwrap());
        }
    }
    best.retain(|_, statuses| !statuses.iter().any(|status| (200..300).contains(status)));
    assert!(best.is_empty(), "no success of {best:?}");
}
