//! Which fields monitors of each type have, and what may stand in them.

use hyper::{
    header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING},
    http::uri::{Authority, PathAndQuery},
};
use lbx_common::api::{Method, Monitor, MonitorKind};

use super::Report;
use crate::config::explain::shorten;

/// Longest datagram, in bytes: it fits into every tunnel that the configuration may have.
const MAX_PAYLOAD_BYTES: usize = 512;

const HTTP: &[MonitorKind] = &[MonitorKind::Http, MonitorKind::Https];
const HTTPS: &[MonitorKind] = &[MonitorKind::Https];
const UDP: &[MonitorKind] = &[MonitorKind::Udp, MonitorKind::UdpIcmp];
const UDP_ANSWERED: &[MonitorKind] = &[MonitorKind::Udp];

pub(super) fn check(monitor: &Monitor, path: &str, report: &mut Report) {
    let at = |field: &str| format!("{path}.{field}");
    let mut has = |field: &str, given: bool, kinds: &[MonitorKind]| {
        let belongs = kinds.contains(&monitor.kind);
        if given && !belongs {
            let names: Vec<String> = kinds.iter().map(|kind| format!("`{}`", kind.as_str())).collect();
            let message = format!(
                "a monitor of type `{}` has no `{field}`, which is for {}: leave it out, or write another `type`",
                monitor.kind.as_str(),
                names.join(" and "),
            );
            report.note(at(field), message);
        }
        given && belongs
    };
    has("method", monitor.method.is_some(), HTTP);
    let has_path = has("path", monitor.path.is_some(), HTTP);
    let has_header = has("header", !monitor.header.is_empty(), HTTP);
    has("expected_codes", monitor.expected_codes.is_some(), HTTP);
    let has_body = has("expected_body", monitor.expected_body.is_some(), HTTP);
    has("follow_redirects", monitor.follow_redirects, HTTP);
    has("allow_insecure", monitor.allow_insecure, HTTPS);
    has("payload", monitor.payload.is_some(), UDP);
    has("expect", monitor.expect.is_some(), UDP_ANSWERED);
    check_port(monitor, path, report);
    if has_path {
        report.take(|| at("path"), check_path(monitor.path.as_deref().unwrap_or_default()));
    }
    if has_header {
        check_header(monitor, &at("header"), report);
    }
    if has_body {
        report.take(|| at("expected_body"), check_body(monitor));
    }
    let payload = monitor.payload.as_ref().map_or(0, |payload| payload.bytes().len());
    if payload > MAX_PAYLOAD_BYTES {
        let message =
            format!("{payload} bytes, but {MAX_PAYLOAD_BYTES} are the most that fit into every tunnel");
        report.note(at("payload"), message);
    }
    if monitor.expect.as_ref().is_some_and(|expect| expect.bytes().is_empty()) {
        report.note(at("expect"), "empty: leave it out to take any datagram");
    }
}

fn check_port(monitor: &Monitor, path: &str, report: &mut Report) {
    let here = || format!("{path}.port");
    match monitor.port {
        Some(_) if !monitor.kind.has_port() => {
            let kind = monitor.kind.as_str();
            report.note(here(), format!("a monitor of type `{kind}` is about no port: leave it out"));
        }
        Some(0) => {
            report.note(here(), "0 is not a port: write 1 to 65535, or leave it out for the endpoint's");
        }
        Some(_) | None => {}
    }
}

fn check_path(path: &str) -> Result<(), String> {
    let quoted = shorten(path);
    if !path.starts_with('/') {
        return Err(format!("`{quoted}` does not begin with `/`: write a path, as `/healthz`"));
    }
    if let Some((before, _)) = path.split_once('#') {
        return Err(format!("`{quoted}` has a fragment, which is never sent: write `{}`", shorten(before)));
    }
    let sent = PathAndQuery::try_from(path);
    if sent.is_ok_and(|sent| sent.as_str() == path) {
        Ok(())
    } else {
        Err(format!("`{quoted}` is no path of HTTP: write what is not a letter or a digit as `%20`"))
    }
}

fn check_header(monitor: &Monitor, path: &str, report: &mut Report) {
    for (name, values) in &monitor.header {
        let here = || format!("{path}.{}", shorten(name));
        let Ok(known) = HeaderName::try_from(name) else {
            report.note(here(), format!("`{}` is no name of a header", shorten(name)));
            continue;
        };
        if [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&known) {
            report.note(here(), "lbx says itself how the request is sent: leave it out");
        }
        if values.is_empty() {
            report.note(here(), "no value: write one, as `[text/plain]`, or leave the header out");
        }
        if known == HOST && values.len() > 1 {
            report.note(here(), format!("{} values, but a request is to one host: write one", values.len()));
        }
        for (index, value) in values.iter().enumerate() {
            let here = || format!("{path}.{}[{index}]", shorten(name));
            if known == HOST && Authority::try_from(value.as_str()).is_err() {
                report
                    .note(here(), format!("`{}` is no host: write one as `www.example.org`", shorten(value)));
            } else if HeaderValue::try_from(value).is_err() {
                report.note(here(), "a header cannot have line breaks or other control characters in it");
            }
        }
    }
}

fn check_body(monitor: &Monitor) -> Result<(), String> {
    if monitor.expected_body.as_ref().is_some_and(String::is_empty) {
        return Err("empty: leave it out to take any body".to_owned());
    }
    if monitor.method == Some(Method::Head) {
        return Err("the response to `HEAD` has no body: leave it out, or write `method: GET`".to_owned());
    }
    Ok(())
}
