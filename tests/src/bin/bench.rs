//! The measuring behind `cargo xtask bench`.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use lbx_tests::bench::{self, Load, Size};

/// Measures lbx on this machine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Nanoseconds per packet in the kernel, over the least that such a packet can take
    Datapath {
        /// Write the figures to this file, too, as JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// How often each case is measured
        #[arg(long, default_value_t = 75)]
        samples: usize,
        /// Measure only the cases whose name has this in it, and the first
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        only: String,
    },
    /// The agent with 4096 services over 256 pools of 64 endpoints: start, memory, how long changes take
    Scale {
        /// Write the figures to this file, too, as JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Connections, requests and packets through lbx, nftables and HAProxy, in turn in one network
    E2e {
        /// Write the figures to this file, too, as JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().what {
        What::Datapath { json, samples, only } => datapath(json.as_deref(), samples, &only),
        What::Scale { json } => scale(json.as_deref()),
        What::E2e { json } => e2e(json.as_deref()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn datapath(json: Option<&Path>, samples: usize, only: &str) -> Result<()> {
    let shown = io::stderr().is_terminal();
    let report = bench::datapath(samples, only, &mut |sample| {
        if shown {
            eprint!("\rsample {} of {samples} ", sample + 1);
        }
    })?;
    if shown {
        eprintln!();
    }
    let told = format!(
        "{report}\n\nNanoseconds per packet: medians of {samples} samples of {} runs on one CPU, the harness taken off.\n\
         FLOOR: a program that moves the head as far and writes a constant header of the same size.\n\
         OVER FLOOR is what TARGET is about. {}",
        bench::RUNS,
        bench::machine()
    );
    print(&told, json, &report.to_json())
}

fn scale(json: Option<&Path>) -> Result<()> {
    let figures = bench::scale(Size::FULL, &mut |what| eprintln!("==> {what}"))?;
    let told = format!(
        "{figures}\n\nAll endpoints are probed every {:?}, through a tunnel, and answer. TARGET: at most. {}",
        Size::FULL.interval,
        bench::machine()
    );
    print(&told, json, &figures.to_json())
}

fn e2e(json: Option<&Path>) -> Result<()> {
    let compared = bench::e2e(Load::FULL, &mut |what| eprintln!("==> {what}"))?;
    let told = format!(
        "{compared}\n\nMedians of {} rounds. Client, balancer and origins take turns on one CPU: none waits for another, so none alone \
         is the limit, and a rate is the inverse of the time that all of them take together (US: microseconds).\n\
         OVER DIRECT: what a way takes beyond `direct`, where the host routes without a tunnel and nothing balances. That is \
         balancing and both ends of the tunnel; `tunnel` has these ends alone, by the kernel. What is left is the generator's, \
         the origins' and the network's.\n\
         TIMES LBX: how many times as long as by lbx in the same round, with P10 and P90. Ratios and differences are what \
         may be said of another machine. {}",
        Load::FULL.rounds,
        bench::machine()
    );
    print(&told, json, &compared.to_json())
}

/// Prints figures for people, and writes them to a file for programs.
fn print(told: &str, json: Option<&Path>, figures: &serde_json::Value) -> Result<()> {
    writeln!(io::stdout(), "{told}").context("cannot print the figures")?;
    if let Some(file) = json {
        std::fs::write(file, format!("{figures:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
