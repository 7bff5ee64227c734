//! HAProxy in TCP mode. It has the VIP, and connections of its own to the origins.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Stdio,
};

use anyhow::{Context, Result};

use super::{Balancer, Counted, Host};
use crate::{cleanup::Guard, topology::ORIGINS};

/// A running HAProxy.
pub struct Haproxy {
    /// Where it answers questions.
    socket: PathBuf,
    _end: Guard,
}

impl Haproxy {
    /// Starts it with TCP of `port` balanced.
    pub fn start(host: &Host<'_>, port: u16) -> Result<Self> {
        let (vip, netns) = (host.vnet().plan.vip, host.netns().clone());
        let directory = tempfile::tempdir()?;
        let (config, socket) = (directory.path().join("haproxy.cfg"), directory.path().join("socket"));
        let servers = ORIGINS.map(|(name, origin)| format!("  server {name} {origin}:{port}\n")).concat();
        let text = format!(
            "global\n  nbthread 1\n  maxconn 1000\n  stats socket {} mode 600\n\
             defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             listen bench\n  bind {vip}:{port}\n  balance roundrobin\n{servers}",
            socket.display()
        );
        fs::write(&config, text)?;
        netns.ip(&format!("addr add {vip}/32 dev lo"))?;
        let mut command = netns.command("haproxy");
        // In the foreground, so that it is a child of ours and nothing else.
        let child = command.arg("-db").arg("-f").arg(&config).stdin(Stdio::null()).spawn();
        let mut child = child.context("cannot run `haproxy`: install haproxy (apt-get install haproxy)")?;
        let end = Guard::new(move || {
            let ended = child.kill().and_then(|()| child.wait());
            if let Err(error) = ended {
                eprintln!("lbx-tests: HAProxy stays behind: {error}");
            }
            if let Err(error) = netns.ip(&format!("addr del {vip}/32 dev lo")) {
                eprintln!("lbx-tests: the VIP stays behind: {error:#}");
            }
            drop(directory);
        });
        Ok(Self { socket, _end: end })
    }
}

impl Balancer for Haproxy {
    fn counted(&self) -> Result<Counted> {
        let mut stream = UnixStream::connect(&self.socket).context("HAProxy's socket")?;
        stream.write_all(b"show stat\n")?;
        let mut table = String::new();
        stream.read_to_string(&mut table)?;
        let sessions = sessions(&table).with_context(|| format!("no sessions in {table}"))?;
        Ok(Counted { connections: Some(sessions), packets: None })
    }
}

/// All sessions that were handed to servers, in HAProxy's table of statistics.
fn sessions(table: &str) -> Option<u64> {
    let mut rows = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let total = rows.next()?.iter().position(|name| *name == "stot")?;
    let row = rows.find(|row| row.get(1) == Some(&"BACKEND"))?;
    row.get(total)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_those_of_the_backend() {
        let table = "# pxname,svname,scur,stot,\nbench,FRONTEND,1,9,\nbench,a,0,3,\nbench,BACKEND,1,7,\n";
        assert_eq!(sessions(table), Some(7));
        assert_eq!(sessions("# pxname,svname,\n"), None);
    }
}
