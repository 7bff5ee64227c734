//! Every encapsulation over both outer families with both inner families, end to end: real clients, real origins,
//! the kernel's own device at the far end where there is one. Prints a table of all of them.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::IpAddr,
};

use anyhow::{Context, Result, anyhow, ensure};
use lbx_tests::{
    agent::start_healthy_in,
    capture::{Capture, Frame},
    config,
    documented::{self, Carried},
    family::Family,
    topology::{EAST, PUBLIC_DEVICE, Topology, UNDERLAY_DEVICE, Vnet, VnetPlan, WEST, lbx_underlay, origins},
    traffic::{Round, private_addresses},
    tunnel::{self, Encap},
};

/// Requests, and datagrams, to each VIP.
const REQUESTS: u16 = 20;
const FIRST_PORT: u16 = 26_000;
const DOWNLOAD_BYTES: u64 = 2_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    encap: Encap,
    outer: Family,
    inner: Family,
}

/// What became of a cell that was run.
struct Outcome {
    /// Packets of the client in tunnels to the gateway, as documented; or what is wrong.
    to_origin: Result<usize>,
    /// Answers at the client, complete and from the right origins; or what is wrong.
    to_client: Result<usize>,
    far_end: String,
}

#[test]
fn every_encapsulation_carries_both_families_over_both_families() {
    let mut outcomes = BTreeMap::new();
    for encap in Encap::ALL {
        // One network over each outer family.
        let [over_v4, over_v6] = Family::ALL;
        let topology = Topology::with(EAST.through(encap, over_v4), WEST.through(encap, over_v6)).unwrap();
        let agent = start_healthy_in(&topology, &config::for_topology(&topology));
        for vnet in topology.vnets() {
            for inner in Family::ALL {
                let outcome = match &agent {
                    Ok(_) => run(&topology, vnet, inner),
                    Err(error) => Outcome::failed(vnet, &format!("lbx does not come up: {error:#}")),
                };
                outcomes.insert(Cell { encap, outer: vnet.plan.outer, inner }, outcome);
            }
        }
    }
    let (table, wrong) = table(&outcomes);
    // Past the test harness, which keeps what a successful test prints to itself.
    io::stdout().write_all(table.as_bytes()).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

impl Outcome {
    fn failed(vnet: &Vnet, why: &str) -> Self {
        let failed = || Err(anyhow!("{why}"));
        Self { to_origin: failed(), to_client: failed(), far_end: vnet.far_end.to_string() }
    }
}

/// All the traffic of one cell.
fn run(topology: &Topology, vnet: &Vnet, inner: Family) -> Outcome {
    let captures = || -> Result<(Capture, Capture)> {
        let public = Capture::start(&topology.client_netns, PUBLIC_DEVICE)?;
        Ok((public, Capture::start(&vnet.gateway, UNDERLAY_DEVICE)?))
    };
    let (public, underlay) = match captures() {
        Ok(captures) => captures,
        Err(error) => return Outcome::failed(vnet, &format!("{error:#}")),
    };
    let answers = ask(topology, vnet.plan, inner);
    let to_client = answers.and_then(|answers| private(&public.stop()?).map(|()| answers));
    let to_origin = underlay.stop().and_then(|frames| requests(&frames, &vnet.plan, inner));
    Outcome { to_origin, to_client, far_end: vnet.far_end.to_string() }
}

/// Requests, datagrams and a download; the number of answers.
fn ask(topology: &Topology, plan: VnetPlan, family: Family) -> Result<usize> {
    let client = topology.client();
    let ports = FIRST_PORT..FIRST_PORT + REQUESTS;
    let rounds =
        [Round::http_in(family, &client, plan, ports.clone()), Round::udp_in(family, &client, plan, ports)];
    let mut answered = 0;
    for round in rounds {
        let mistakes = round.mistakes();
        ensure!(mistakes.is_empty(), "{}", mistakes.join("; "));
        for (origin, answers) in round.by_origin() {
            ensure!(answers > 0, "{} {}: origin {origin} never answered", plan.name, round.kind);
            answered += answers;
        }
        for answer in round.answers.iter().flatten() {
            let address = origins(family).into_iter().find(|(name, _)| *name == answer.origin);
            ensure!(address.map(|(_, address)| address) == Some(answer.address), "{answer:?}");
        }
    }
    ensure!(answered == 2 * usize::from(REQUESTS), "{answered} answers");
    client.download(plan.vip_of(family), 0, DOWNLOAD_BYTES)?.finish().context("a download")?;
    Ok(answered + 1)
}

fn private(frames: &[Frame]) -> Result<()> {
    ensure!(!frames.is_empty(), "the capture at the client saw nothing");
    let found = private_addresses(frames);
    ensure!(found == Vec::<IpAddr>::new(), "private addresses at the client: {found:?}");
    Ok(())
}

/// Checks what lbx sent to the gateway; the number of the client's packets in it.
fn requests(frames: &[Frame], plan: &VnetPlan, family: Family) -> Result<usize> {
    let mut requests = 0;
    for frame in frames.iter().filter(|frame| !frame.outgoing) {
        ensure!(!tunnel::is_fragment(&frame.bytes), "a fragment: {:02x?}", frame.bytes);
        let Some(packet) = tunnel::unwrap(&frame.bytes)? else { continue };
        if packet.outer.source != lbx_underlay(plan.outer) {
            continue;
        }
        match documented::check(&packet, plan).with_context(|| format!("{packet:?}"))? {
            Carried::Request(inner) => {
                ensure!(inner == family, "{inner} inside");
                requests += 1;
            }
            Carried::Probe(_) | Carried::Neighbour => {}
        }
    }
    // A request over TCP is at least SYN, ACK, data and FIN.
    let least = 5 * usize::from(REQUESTS);
    ensure!(requests >= least, "{requests} packets of the client were captured, not {least} or more");
    Ok(requests)
}

/// The table of all cells, and what is wrong with them.
fn table(outcomes: &BTreeMap<Cell, Outcome>) -> (String, Vec<String>) {
    let mut lines =
        vec![String::new(), row(["encap", "outer", "inner", "mode", "to origin", "to client", "far end"])];
    let mut wrong = Vec::new();
    for (cell, Outcome { to_origin, to_client, far_end }) in outcomes {
        for (way, result) in [("to origin", to_origin), ("to client", to_client)] {
            if let Err(error) = result {
                wrong.push(format!("{cell:?} {way}: {error:#}"));
            }
        }
        lines.push(row([
            cell.encap.as_str(),
            cell.outer.as_str(),
            cell.inner.as_str(),
            "nat",
            said(to_origin),
            said(to_client),
            far_end,
        ]));
    }
    (lines.join("\n") + "\n", wrong)
}

fn said(result: &Result<usize>) -> &'static str {
    if result.is_ok() { "ok" } else { "WRONG" }
}

fn row([encap, outer, inner, mode, to_origin, to_client, far_end]: [&str; 7]) -> String {
    let row = format!("{encap:16} {outer:6} {inner:6} {mode:5} {to_origin:10} {to_client:10} {far_end}");
    row.trim_end().to_owned()
}
