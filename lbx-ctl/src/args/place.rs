//! Where the agent is: its socket on this machine, or a port of another one.

use std::path::PathBuf;

use clap::{ArgMatches, parser::ValueSource};
use reqwest::Url;

use crate::{error::CliError, remote::Remote};

/// Where the agent listens unless told otherwise.
const DEFAULT_SOCKET: &str = "/run/lbx/agent.sock";

/// The options that say where the agent is.
#[derive(Debug, Clone, clap::Args)]
pub struct PlaceArgs {
    /// Unix socket of the agent
    #[arg(long, global = true, env = "LBX_SOCKET", hide_env_values = true, default_value = DEFAULT_SOCKET, value_name = "PATH")]
    pub socket: PathBuf,

    /// Instead of a socket: an agent with `--listen`, as `https://lb1:9470`. Needs the next three
    #[arg(long, global = true, env = "LBX_SERVER", hide_env_values = true, value_name = "URL", value_parser = server, help_heading = "Another machine")]
    pub server: Option<Url>,

    /// Certificate to show, in PEM
    #[arg(
        long,
        global = true,
        env = "LBX_CERT",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Another machine"
    )]
    pub cert: Option<PathBuf>,

    /// Its key, in PEM
    #[arg(
        long,
        global = true,
        env = "LBX_KEY",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Another machine"
    )]
    pub key: Option<PathBuf>,

    /// Authority of the agent's certificate, in PEM
    #[arg(
        long,
        global = true,
        env = "LBX_CA",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Another machine"
    )]
    pub ca: Option<PathBuf>,
}

/// Where the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    Socket(PathBuf),
    /// On another one.
    Remote(Remote),
}

impl PlaceArgs {
    /// What was meant: the command line counts more than the environment.
    pub fn place(self, matches: &ArgMatches) -> Result<Place, CliError> {
        let typed = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        let Some(url) = self.server.filter(|_| typed("server") || !typed("socket")) else {
            return Ok(Place::Socket(self.socket));
        };
        if typed("server") && typed("socket") {
            let text = "--socket is an agent on this machine, --server one on another: name one of them";
            return Err(CliError::Usage(text.to_owned()));
        }
        let [cert, key, ca] =
            [("cert", self.cert), ("key", self.key), ("ca", self.ca)].map(|(name, file)| {
                file.ok_or_else(|| format!("--{name} FILE (or LBX_{})", name.to_uppercase()))
            });
        let missing: Vec<String> =
            [&cert, &key, &ca].into_iter().filter_map(|file| file.as_ref().err().cloned()).collect();
        match (cert, key, ca) {
            (Ok(cert), Ok(key), Ok(ca)) => Ok(Place::Remote(Remote { url, cert, key, ca })),
            _ => Err(CliError::Usage(format!("--server needs {}, too", missing.join(", ")))),
        }
    }
}

fn server(text: &str) -> Result<Url, String> {
    let wrong = || "write it as https://lb1:9470, without a path".to_owned();
    let url: Url = text.parse().map_err(|_| wrong())?;
    let plain =
        url.scheme() == "https" && url.path() == "/" && url.query().is_none() && url.username().is_empty();
    if plain { Ok(url) } else { Err(wrong()) }
}
