//! Packets of every form through the loaded programs: all families, encapsulations and modes. The host's run of
//! the same pipeline must agree on all of it, and independent code says what is right.
//!
//! | file | owns |
//! |---|---|
//! | `check` | what a case is, and whether it came out right |
//! | `matrix` | families × encapsulations × modes × directions, and the table of them |
//! | `requests_v4`, `requests_v6` | headers and lengths of clients' packets |
//! | `replies` | headers, lengths and destinations of endpoints' packets |
//! | `known_routes` | ways to clients that are known already |
//! | `ports` | ranges of ports, any port, networks with the same addresses |
//! | `probes` | health checks |
//! | `answers` | errors of lbx itself, pings, errors that are sent on |
//! | `fragments` | datagrams in pieces |
//! | `vlan` | replies by a VLAN device |
//! | `untouched` | what is not ours |
//! | `precedence` | listeners that share ports |
//! | `edges` | checksums at the ends of their range |
//! | `spread` | several tunnels, and what spreads flows on the way |
//! | `truncated` | packets cut off at every length |
//! | `stock` | tunnel packets of gateways: forms of stock devices, forms that the RFCs allow, broken ones |

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod answers;
mod check;
mod edges;
mod fragments;
mod known_routes;
mod matrix;
mod ports;
mod precedence;
mod probes;
mod replies;
mod requests_v4;
mod requests_v6;
mod spread;
mod stock;
mod truncated;
mod untouched;
mod vlan;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Write as _},
};

use lbx_tests::{lab::Lab, world};

use self::check::{Case, Runner};

/// Past the test harness, which keeps what a successful test prints to itself.
fn print(text: &str) {
    io::stdout().write_all(text.as_bytes()).unwrap();
}

#[test]
fn every_cell_of_the_matrix() {
    let lab = Lab::new(&world::config()).unwrap();
    let outcomes = matrix::run_all(&lab);
    let packets: usize = outcomes.values().flatten().sum();
    print(&format!("\n{}{} cells, {packets} packets\n", matrix::table(&outcomes), outcomes.len()));
    let wrong = outcomes.iter().filter_map(|(cell, outcome)| Some((cell, outcome.as_ref().err()?)));
    let wrong: Vec<_> = wrong.map(|(cell, error)| format!("{cell:?}: {error:#}")).collect();
    assert!(wrong.is_empty(), "{} cells:\n{}", wrong.len(), wrong.join("\n"));
    // Five encapsulations, two families outside and inside, two modes, two ways, TCP and UDP.
    assert_eq!(outcomes.len(), 5 * 2 * 2 * 2 * 2 * 2);
    assert_eq!(lab.all_drops().unwrap(), lab.all_drops_on_host());
}

/// The groups of named cases, and how many each must have at least: a case that is lost is a hole.
fn groups() -> Vec<(&'static str, Vec<Case>, usize)> {
    vec![
        ("requests in IPv4", requests_v4::cases(), 125),
        ("requests in IPv6", requests_v6::cases(), 80),
        ("answers of lbx itself", answers::cases(), 260),
        ("ranges of ports, and any port", ports::cases(), 440),
        ("tunnel packets of gateways", stock::cases(), 280),
        ("packets of endpoints", replies::cases(), 630),
        ("time to live that ends here, back", replies::expired(), 40),
        ("health checks", probes::cases(), 43),
        ("not ours", untouched::cases(), 290),
    ]
}

#[test]
fn every_case_comes_out_as_it_must() {
    let lab = Lab::new(&world::config()).unwrap();
    let mut runner = Runner::new(&lab).unwrap();
    let (mut wrong, mut total, mut summary) = (Vec::new(), 0, String::from("\n"));
    for (group, cases, minimum) in groups() {
        assert!(cases.len() >= minimum, "{group}: only {} of {minimum} cases are left", cases.len());
        let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), cases.len(), "{group}: two cases have one name");
        for case in &cases {
            if let Err(error) = runner.run(case) {
                wrong.push(format!("{group}: {} (on {:?}): {error:#}", case.name, case.on));
            }
        }
        total += cases.len();
        writeln!(summary, "{:5} {group}", cases.len()).unwrap();
    }
    print(&format!("{summary}{total:5} cases\n"));
    assert!(wrong.is_empty(), "{} of {total} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(lab.all_drops().unwrap(), lab.all_drops_on_host());
}
