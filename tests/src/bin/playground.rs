//! The playground behind `cargo xtask run`: the test network with lbx in it, to look at and to try by hand.

use std::{
    fmt::Write as _,
    io::{self, BufRead},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lbx_tests::{
    agent::{Agent, Source, binary},
    capture::Capture,
    cleanup, config,
    topology::{PUBLIC_DEVICE, Topology},
    traffic::{Round, private_addresses},
};

const HTTP_REQUESTS: u16 = 20;
const UDP_EXCHANGES: u16 = 10;
/// Fixed, so that every run shows the same.
const FIRST_PORT: u16 = 40_001;
/// A few rounds of health checks.
const HEALTHY_LIMIT: Duration = Duration::from_secs(15);

/// Shows lbx at work in network namespaces: a client, lbx, two virtual networks with the same private addresses.
#[derive(Parser)]
struct Arguments {
    /// Verify the answers, clean up and exit: 0 = all right, 1 = not.
    #[arg(long)]
    check: bool,
    /// Bring up the network alone, without lbx in it.
    #[arg(long, conflicts_with = "check")]
    network_only: bool,
}

enum Event {
    Interrupt,
    Line(String),
}

fn main() -> ExitCode {
    match play(&Arguments::parse()) {
        Ok(mistakes) if mistakes.is_empty() => ExitCode::SUCCESS,
        Ok(mistakes) => {
            eprintln!("\n{} thing(s) went wrong:", mistakes.len());
            for mistake in mistakes {
                eprintln!("  {mistake}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Everything is removed when this returns.
fn play(arguments: &Arguments) -> Result<Vec<String>> {
    if arguments.network_only {
        let topology = Topology::new()?;
        println!("{}\nNamespaces: {}", picture(&topology), topology.namespaces().join(" "));
        stay(&topology);
        return Ok(Vec::new());
    }
    // Before the network, so that nothing has to be taken down again.
    binary("lbx-agent")?;
    binary("lbx-ctl")?;
    println!("Bringing up the network: client, lbx, two gateways, four origins …");
    let topology = Topology::new()?;
    println!("{}", picture(&topology));
    println!("Starting lbx-agent and applying its configuration …");
    let agent = Agent::new(&topology, Source::Store)?;
    agent.write_config(&config::whole())?;
    agent.start()?;
    let file = agent.config_file();
    show_ctl(&agent, &["apply", "-f", &file.to_string_lossy()])?;
    agent.wait_until_healthy(HEALTHY_LIMIT)?;

    println!("\nSending {HTTP_REQUESTS} HTTP requests and {UDP_EXCHANGES} datagrams to each VIP …\n");
    let mistakes = traffic(&topology)?;
    show_ctl(&agent, &["health"])?;
    show_ctl(&agent, &["stats"])?;
    if !arguments.check {
        for mistake in &mistakes {
            println!("went wrong: {mistake}");
        }
        println!("{}", what_next(&topology, &agent)?);
        stay(&topology);
        println!("\nRemoving everything …");
        return Ok(Vec::new());
    }
    if mistakes.is_empty() {
        println!(
            "\nAll answers came from the right virtual network and from both of its origins, which saw the\n\
             client's own address; no private address reached the client."
        );
    }
    Ok(mistakes)
}

fn picture(topology: &Topology) -> String {
    let (east, west) = (&topology.east.far_end, &topology.west.far_end);
    format!(
        "
  client ─── lbx ─┬─ gw-east (gre, key 42; {east}) ─── 10.0.0.0/24: a .10, b .11
  192.0.2.2       └─ gw-west (vxlan, VNI 43; {west}) ─── 10.0.0.0/24: a .10, b .11

  VIPs: {} → east, {} → west; tcp/80 (HTTP) and udp/53 (echo)
",
        topology.east.plan.vip, topology.west.plan.vip
    )
}

/// Sends requests and prints who answered; returns what is wrong with the answers.
fn traffic(topology: &Topology) -> Result<Vec<String>> {
    let client = topology.client();
    let capture = Capture::start(&topology.client_netns, PUBLIC_DEVICE)?;
    let mut mistakes = Vec::new();
    for vnet in topology.vnets() {
        let (plan, http_ports) = (vnet.plan, FIRST_PORT..FIRST_PORT + HTTP_REQUESTS);
        let rounds = [
            Round::http(&client, plan, http_ports),
            Round::udp(&client, plan, FIRST_PORT..FIRST_PORT + UDP_EXCHANGES),
        ];
        for round in &rounds {
            println!("  {}", summary(round));
            mistakes.extend(round.mistakes());
            for (origin, answers) in round.by_origin() {
                if answers == 0 {
                    mistakes.push(format!("{} {}: origin {origin} never answered", plan.name, round.kind));
                }
            }
        }
    }
    println!();
    for address in private_addresses(&capture.stop()?) {
        mistakes.push(format!("the private address {address} was seen on the client's network"));
    }
    Ok(mistakes)
}

fn summary(round: &Round) -> String {
    let (port, what) = if round.kind == "udp" { ("udp/53", "datagrams") } else { ("tcp/80", "requests ") };
    let mut text = format!("{} {port} ({}):", round.plan.vip, round.plan.name);
    for (origin, answers) in round.by_origin() {
        // Writing to a String cannot fail.
        let _ = write!(text, "  {origin} answered {answers:>2}");
    }
    let answered = round.answers.iter().filter(|answer| answer.is_ok()).count();
    let _ = write!(text, "  of {} {what}", round.answers.len());
    if answered < round.answers.len() {
        let _ = write!(text, "  ({} WITHOUT ANSWER)", round.answers.len() - answered);
    }
    text
}

/// Runs `lbx-ctl` and prints command and output, as a user would see them.
fn show_ctl(agent: &Agent, arguments: &[&str]) -> Result<()> {
    println!("$ lbx-ctl {}", arguments.join(" "));
    let finished = agent.ctl(arguments)?;
    let command = arguments.join(" ");
    ensure!(
        finished.code == Some(0),
        "`lbx-ctl {command}` failed ({:?}): {}{}\nagent log:\n{}",
        finished.code,
        finished.stdout,
        finished.stderr,
        agent.log()
    );
    println!("{}{}", finished.stderr, finished.stdout);
    Ok(())
}

fn what_next(topology: &Topology, agent: &Agent) -> Result<String> {
    let ctl = binary("lbx-ctl")?;
    let programs = ctl.parent().context("the directory of lbx-ctl")?;
    // Relative where that is shorter: what is to be typed is meant to be read.
    let here = std::env::current_dir().context("the current directory")?;
    let programs = match programs.strip_prefix(&here) {
        Ok(below) => format!("$PWD/{}", below.display()),
        Err(_) => programs.display().to_string(),
    };
    let socket = agent.socket();
    let (socket, client) = (socket.display(), topology.client_netns.path());
    let (client, gateway) = (client.display(), topology.east.gateway.path());
    let gateway = gateway.display();
    let (east, west) = (topology.east.plan.vip, topology.west.plan.vip);
    Ok(format!(
        "It stays up until Ctrl-C. In another terminal, as root, in this directory:

  export LBX_SOCKET={socket} PATH={programs}:$PATH
  client={client}

  nsenter --net=$client curl http://{east}/
  nsenter --net=$client curl http://{west}/
  nsenter --net={gateway} tcpdump -ni underlay0        # the tunnel packets of east
  lbx-ctl get endpoints
  lbx-ctl health
  lbx-ctl set endpoint east-web/a --weight 0.2
  lbx-ctl events --follow
  lbx-ctl stats
  lbx-ctl export

Here (type and press Enter):

  stop east a       stop the servers of origin a in east: lbx takes it out, its twin in west stays
  start east a      start them again
  send              another round of requests
  quit              the same as Ctrl-C"
    ))
}

/// Serves the keyboard until Ctrl-C.
fn stay(topology: &Topology) {
    let (sender, events) = mpsc::channel();
    let lines = sender.clone();
    cleanup::on_interrupt(move || sender.send(Event::Interrupt).is_ok());
    // Not joined: reading ends with the process, or at the end of the input.
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if lines.send(Event::Line(line)).is_err() {
                return;
            }
        }
    });
    while let Ok(Event::Line(line)) = events.recv() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let outcome = match words.as_slice() {
            [] => Ok(()),
            ["quit" | "exit"] => return,
            ["send"] => traffic(topology).map(|mistakes| {
                for mistake in mistakes {
                    println!("  {mistake}");
                }
            }),
            [verb @ ("stop" | "start"), vnet, origin] => switch(topology, verb, vnet, origin),
            _ => {
                println!("unknown: `{line}`. There are: stop VNET ORIGIN, start VNET ORIGIN, send, quit");
                Ok(())
            }
        };
        if let Err(error) = outcome {
            println!("{error:#}");
        }
    }
}

fn switch(topology: &Topology, verb: &str, vnet: &str, origin: &str) -> Result<()> {
    let found = topology.vnet(vnet)?.origin(origin)?;
    if verb == "stop" {
        found.stop_servers();
        println!(
            "the servers of {vnet}/{origin} are stopped; `lbx-ctl health` shows it, `send` shows who answers"
        );
    } else {
        found.start_servers()?;
        println!("the servers of {vnet}/{origin} run again");
    }
    Ok(())
}
