//! Command line of the agent.

use std::{
    io::IsTerminal,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use lbx_agent::{
    api::TlsFiles,
    lifecycle::{self, Options},
};
use lbx_common::man;
use tracing_subscriber::EnvFilter;

/// What `--help` says about exit codes.
const EXIT_CODES: &str = "\
Exit codes:
  0  done, also after SIGTERM and SIGINT
  1  refused or failed, with the reason on standard error
  2  wrong usage";

/// The lbx agent: loads the data plane, fills its maps, checks health, serves the API.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
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
        /// Address and port for lbx-ctl on other machines, as 192.0.2.1:9470. Only who has a certificate of the
        /// authority in --tls-client-ca is answered.
        #[arg(long, value_name = "ADDRESS:PORT", requires_all = ["tls_cert", "tls_key", "tls_client_ca"])]
        listen: Option<SocketAddr>,
        /// Certificate of the agent, in PEM; read again when it changes, and on SIGHUP, as the next two.
        #[arg(long, value_name = "FILE", requires = "listen")]
        tls_cert: Option<PathBuf>,
        /// Its key, in PEM, without a passphrase.
        #[arg(long, value_name = "FILE", requires = "listen")]
        tls_key: Option<PathBuf>,
        /// Certificate of the authority that signs the certificates of clients, in PEM: one for this purpose alone.
        #[arg(long, value_name = "FILE", requires = "listen")]
        tls_client_ca: Option<PathBuf>,
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
    /// Print the man page, or write those of all commands into a folder.
    Man {
        /// The folder.
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
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
    // See no-color.org.
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = std::io::stderr().is_terminal() && !plain;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    let result = match arguments.command {
        Command::Run {
            config,
            state_dir,
            bpffs,
            socket,
            metrics,
            listen,
            tls_cert,
            tls_key,
            tls_client_ca,
            detach_on_exit,
        } => {
            // The parser sees to it that there are all four or none.
            let files = tls_cert.zip(tls_key).zip(tls_client_ca);
            let listen = listen.zip(files).map(|(address, ((certificate, key), client_ca))| {
                (address, TlsFiles { certificate, key, client_ca })
            });
            let options = Options { config, state_dir, bpffs, socket, metrics, listen, detach_on_exit };
            Box::pin(lifecycle::run(options)).await
        }
        Command::Detach { bpffs, socket } => lifecycle::detach(&bpffs, &socket).await,
        Command::Check { config } => lifecycle::check(&config),
        Command::Man { directory } => print_man(directory.as_deref()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lbx-agent: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// What the man page names.
const FILES: [man::File; 4] = [
    ("/var/lib/lbx", "the stored configuration, and the hash seed"),
    ("/run/lbx/agent.sock", "socket of the API"),
    ("/sys/fs/bpf/lbx", "what is pinned: programs, maps"),
    ("/etc/lbx/lbx.yaml", "the configuration, where the unit of systemd has --config"),
];

/// Prints the page of the program, or writes all into a folder.
fn print_man(directory: Option<&Path>) -> anyhow::Result<()> {
    let command = Arguments::command();
    if let Some(directory) = directory {
        let pages = man::write(command, &FILES, directory)
            .with_context(|| format!("cannot write to {}", directory.display()))?;
        println!("{} pages written to {}", pages.len(), directory.display());
    } else if let Some((_, page)) = man::pages(command, &FILES)?.first() {
        print!("{}", String::from_utf8_lossy(page));
    }
    Ok(())
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
