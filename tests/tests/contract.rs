//! The API is what its OpenAPI document says: schemathesis, which knows nothing but the document, finds no server error and
//! no answer that is not in it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeSet,
    env, fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use lbx_common::api::configuration_schema;
use lbx_tests::{
    agent::{Agent, Source},
    config,
    netns::Netns,
    process::finish,
    takes_long,
    topology::Topology,
    world,
};
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

/// It takes less than a minute where nothing else runs.
const PATIENCE: Duration = Duration::from_mins(5);
const LONG_PATIENCE: Duration = Duration::from_hours(1);

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
fn what_the_tests_and_the_playground_configure_fits_the_schema_for_editors() {
    let schema = jsonschema::options().should_validate_formats(true);
    let schema = schema.build(configuration_schema().as_value()).unwrap();
    for config in [config::whole(), config::of_both_families(), world::config()] {
        let document = serde_json::to_value(config).unwrap();
        let errors: Vec<String> = schema
            .iter_errors(&document)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
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
    command.args(["--max-examples", if takes_long() { "100" } else { "3" }]);
    command.env("SCHEMATHESIS_HOOKS", files.join("hooks.py")).env("LBX_URL", &url).env("LBX_CALLS", &calls);
    let end = finish(&mut command, if takes_long() { LONG_PATIENCE } else { PATIENCE }).unwrap();
    println!("{}\n{}", end.stdout, end.stderr);
    assert_eq!(end.code, Some(0), "{}", agent.log());

    // The document is read here: schemathesis leaves out where it has it from.
    let document: Value = agent.get("/v1/openapi.json").unwrap();
    let mut open: BTreeSet<String> = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let each = methods.as_object().unwrap().keys();
        open.extend(each.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    open.remove("GET /v1/openapi.json");
    assert!(open.len() > 40, "{open:?}");
    for line in fs::read_to_string(calls).unwrap().lines() {
        let (operation, status) = line.rsplit_once(' ').unwrap();
        if status.starts_with('2') {
            open.remove(operation);
        }
    }
    assert!(open.is_empty(), "no success of {open:?}");
}
