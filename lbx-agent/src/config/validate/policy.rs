//! Rules for who may connect to a service, and what else its address answers.

use std::{collections::HashMap, net::IpAddr};

use lbx_common::api::{Family, Prefix, Service};

use super::{Report, Seen};

/// Most prefixes in `allow` and `deny` of one service.
const MAX_PREFIXES: usize = 10_000;

/// Whether echo requests are answered, by address, and the service that said so first.
#[derive(Default)]
pub(super) struct Echo<'a>(HashMap<IpAddr, (bool, &'a str)>);

impl<'a> Echo<'a> {
    /// The answer comes from the address and not from one of its services, so all must want the same.
    pub(super) fn check(&mut self, service: &'a Service, path: &str, report: &mut Report) {
        let entry = self.0.entry(service.address).or_insert((service.icmp_echo, &service.name));
        let &mut (other, first) = entry;
        if other != service.icmp_echo {
            let message = format!(
                "found {}, but service `{first}` has {other} for the same address {}: write the same for both",
                service.icmp_echo, service.address,
            );
            report.note(format!("{path}.icmp_echo"), message);
        }
    }
}

/// Checks `allow` and `deny`.
pub(super) fn prefixes(service: &Service, path: &str, report: &mut Report) {
    let count = service.allow.len() + service.deny.len();
    if count > MAX_PREFIXES {
        let field = if service.allow.len() > MAX_PREFIXES { "allow" } else { "deny" };
        let message =
            format!("`allow` and `deny` have {count} prefixes: {MAX_PREFIXES} is the most of a service");
        report.note(format!("{path}.{field}"), message);
    }
    list(service, &service.allow, &format!("{path}.allow"), report);
    list(service, &service.deny, &format!("{path}.deny"), report);
}

fn list(service: &Service, prefixes: &[Prefix], path: &str, report: &mut Report) {
    let family = Family::of(service.address);
    let mut seen = Seen::default();
    for (index, &prefix) in prefixes.iter().enumerate() {
        let here = format!("{path}[{index}]");
        if prefix.family() != family {
            let message = format!(
                "`{prefix}` is {}, but {}, the address of the service, is {family}: no client can match it",
                prefix.family(),
                service.address,
            );
            report.note(here, message);
        } else if let Some(first) = seen.before(prefix, here.clone()) {
            report.note(here, format!("`{prefix}` is listed by {first} already: list it once"));
        }
    }
}
