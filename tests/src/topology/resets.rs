//! Who ended connections, for the message of a test in which one ended that should not.

use std::fmt::Write as _;

use super::Topology;

/// Counters of the kernel's TCP (nstat(8)).
const COUNTERS: [&str; 5] =
    ["TcpOutRsts", "TcpEstabResets", "TcpRetransSegs", "TcpExtListen*", "TcpExtTCPAbort*"];

impl Topology {
    /// What the TCP of each namespace counted that ends connections, and what comes before that.
    pub fn resets(&self) -> String {
        let mut text = String::new();
        let of_vnets = self.vnets().into_iter().flat_map(|vnet| {
            std::iter::once(&vnet.gateway).chain(vnet.origins.iter().map(|origin| &origin.netns))
        });
        for netns in [&self.client_netns, &self.lbx].into_iter().chain(of_vnets) {
            let output = netns.command("nstat").arg("-as").args(COUNTERS).output();
            let counters = output.map_or_else(
                |error| error.to_string(),
                |output| {
                    String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
                },
            );
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}: {counters}", netns.name());
        }
        text
    }
}
