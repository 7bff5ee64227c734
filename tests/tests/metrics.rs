//! A scrape of a running agent, as Prometheus makes it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeSet,
    env,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use lbx_tests::{
    agent::{Agent, Source},
    config,
    topology::{EAST, Topology},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(10);
const PORT: &str = "127.0.0.1:9469";

/// `promtool`, which the set-up puts beside the other tools of the checkout where the system has none.
fn promtool() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|folder| folder.join("promtool"));
    let own = env::current_exe().unwrap().ancestors().nth(3).unwrap().join("tools/bin/promtool");
    let found = in_path.chain([own]).find(|file| file.exists());
    found.expect("promtool is missing: `cargo xtask setup` installs it")
}

fn check(page: &str) {
    let mut child = Command::new(promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

/// The value of a metric with exactly these labels; all that are asked for are whole.
fn value(page: &str, metric: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{metric} is not in\n{page}")).parse().unwrap()
}

fn scrape(agent: &Agent) -> String {
    let response = agent.request("GET", "/metrics", b"").unwrap();
    assert_eq!(response.status, 200);
    String::from_utf8(response.body).unwrap()
}

#[test]
fn a_scrape_has_what_happened_and_passes_promtool() {
    let topology = Topology::new().unwrap();
    let agent = Agent::new(&topology, Source::File).unwrap();
    agent.write_config(&config::whole()).unwrap();
    let mut command = agent.run_command().unwrap();
    command.args(["--metrics", PORT]);
    agent.start_as(command).unwrap();
    agent.wait_until_healthy(PATIENCE).unwrap();
    check(&scrape(&agent));

    for _ in 0..20 {
        topology.client().http_get(EAST.vip, 0).unwrap();
    }
    topology.east.origin("a").unwrap().stop_servers();
    agent.wait_for_health("east-web", "a", lbx_common::api::HealthState::Unhealthy, PATIENCE).unwrap();
    let page = scrape(&agent);
    check(&page);
    assert!(value(&page, r#"lbx_service_tcp_syns_total{service="east"}"#) >= 20);
    assert_eq!(value(&page, r#"lbx_service_tcp_syns_total{service="west"}"#), 0);
    let endpoint = |name: &str| {
        format!(r#"lbx_endpoint_healthy{{endpoint="{name}",pool="east-web",virtual_network="east"}}"#)
    };
    assert_eq!((value(&page, &endpoint("a")), value(&page, &endpoint("b"))), (0, 1));
    assert!(value(&page, r#"lbx_probes_total{result="failure",type="tcp"}"#) >= 1);
    assert!(value(&page, r#"lbx_probes_total{result="success",type="tcp"}"#) >= 4);
    assert!(value(&page, "lbx_reconcile_duration_seconds_count") >= 1);
    let pool = r#"lbx_service_pool_serving{pool="east-web",service="east"}"#;
    assert_eq!(value(&page, pool), 1);

    // By the port the same, and nothing else.
    let by_port = |path: &str| {
        topology.lbx.run(|| {
            let mut stream = TcpStream::connect(PORT.parse::<SocketAddr>()?)?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    };
    let page = by_port("/metrics").unwrap();
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("text/plain; version=0.0.4"), "{page}");
    assert!(page.contains("lbx_build_info"), "{page}");
    assert!(by_port("/v1/config").unwrap().starts_with("HTTP/1.1 404"));
    // The port goes with the agent.
    agent.terminate().unwrap();
    wait::until("the port is closed", PATIENCE, || Ok(by_port("/metrics").is_err().then_some(()))).unwrap();
}

/// The names of all metrics, as README lists them.
fn known() -> BTreeSet<String> {
    let readme = include_str!("../../README.md");
    let table = readme.split("## Metrics").nth(1).unwrap().split("\n## ").next().unwrap();
    let names = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    names.map(str::to_owned).collect()
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let text = include_str!("../../lbx-agent/grafana/lbx.json");
    let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let known = known();
    let mut asked = BTreeSet::new();
    for panel in panels {
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()), "{panel}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            for word in words.filter(|word| word.starts_with("lbx_")) {
                let name = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| word.strip_suffix(suffix).filter(|name| known.contains(*name)))
                    .unwrap_or(word);
                assert!(known.contains(name), "{expression} asks for {name}");
                asked.insert(name.to_owned());
            }
        }
    }
    assert!(asked.len() > 10, "{asked:?}");
}
