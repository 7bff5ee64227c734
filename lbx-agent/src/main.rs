//! Command line of the agent.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use lbx_agent::lifecycle::{self, Options};
use tracing_subscriber::EnvFilter;

/// The lbx agent: loads the data plane, fills its maps, checks health, serves the API.
///
/// Exit codes: 0 done; 1 refused or failed, with the reason on standard error; 2 wrong use.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until SIGTERM or SIGINT. Forwarding goes on afterwards; SIGHUP reads the configuration file again.
    Run {
        /// Configuration file (YAML). It is then the whole truth: changes by the API are refused. Without it
        /// the configuration lives in the state directory and is changed with lbx-ctl.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Folder of the stored configuration and the hash seed.
        #[arg(long, value_name = "DIR", default_value = "/var/lib/lbx")]
        state_dir: PathBuf,
        /// Folder on the BPF file system where maps and links are pinned.
        #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/lbx")]
        bpffs: PathBuf,
        /// Unix socket of the API.
        #[arg(long, value_name = "PATH", default_value = "/run/lbx/agent.sock", env = "LBX_SOCKET")]
        socket: PathBuf,
        /// Address and port of this machine for Prometheus, as 127.0.0.1:9469; the socket has `/metrics` as well.
        #[arg(long, value_name = "ADDRESS:PORT")]
        metrics: Option<SocketAddr>,
        /// Remove everything from the kernel when the agent ends: forwarding stops.
        #[arg(long)]
        detach_on_exit: bool,
    },
    /// Remove programs, maps, devices, routes and rules of lbx from the kernel: forwarding stops.
    Detach {
        /// Folder on the BPF file system that the agent was started with.
        #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/lbx")]
        bpffs: PathBuf,
        /// Socket of the agent, to see that none is running.
        #[arg(long, value_name = "PATH", default_value = "/run/lbx/agent.sock", env = "LBX_SOCKET")]
        socket: PathBuf,
    },
    /// Check a configuration file, list every mistake with its place, and change nothing.
    Check {
        /// Configuration file (YAML).
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("LBX_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    let result = match arguments.command {
        Command::Run { config, state_dir, bpffs, socket, metrics, detach_on_exit } => {
            lifecycle::run(Options { config, state_dir, bpffs, socket, metrics, detach_on_exit }).await
        }
        Command::Detach { bpffs, socket } => lifecycle::detach(&bpffs, &socket).await,
        Command::Check { config } => lifecycle::check(&config),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lbx-agent: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, without those that it tells itself.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}
