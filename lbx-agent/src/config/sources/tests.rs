//! Lists: what the longest prefix says is what `allow` and `deny` say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn prefixes(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn compiled(allow: &[&str], deny: &[&str]) -> Vec<(String, u32)> {
    let every_source = Prefix::around(Ipv4Addr::UNSPECIFIED.into(), 0);
    let list = compile(&prefixes(allow), &prefixes(deny), every_source);
    list.into_iter().map(|(prefix, verdict)| (prefix.to_string(), verdict)).collect()
}

fn expected(entries: &[(&str, u32)]) -> Vec<(String, u32)> {
    entries.iter().map(|&(prefix, verdict)| (prefix.to_owned(), verdict)).collect()
}

#[test]
fn who_is_not_named_may_connect_unless_somebody_else_is_allowed() {
    const YES: u32 = PREFIX_ALLOWED;
    const NO: u32 = PREFIX_DENIED;
    let deny_only = compiled(&[], &["10.0.0.0/8"]);
    assert_eq!(deny_only, expected(&[("0.0.0.0/0", YES), ("10.0.0.0/8", NO)]));
    let allow_only = compiled(&["10.0.0.0/8"], &[]);
    assert_eq!(allow_only, expected(&[("0.0.0.0/0", NO), ("10.0.0.0/8", YES)]));
    let both = compiled(&["10.0.0.0/8"], &["10.1.0.0/16"]);
    assert_eq!(both, expected(&[("0.0.0.0/0", NO), ("10.0.0.0/8", YES), ("10.1.0.0/16", NO)]));
}

#[test]
fn within_a_denied_prefix_nothing_is_allowed() {
    let nobody = expected(&[("0.0.0.0/0", PREFIX_DENIED)]);
    assert_eq!(compiled(&["10.0.0.0/8"], &["0.0.0.0/0"]), nobody);
    let within = compiled(&["10.1.0.0/16", "10.1.2.3/32", "10.0.0.0/8"], &["10.0.0.0/8"]);
    assert_eq!(within, expected(&[("0.0.0.0/0", PREFIX_DENIED), ("10.0.0.0/8", PREFIX_DENIED)]));
    assert_eq!(compiled(&["0.0.0.0/0"], &[]), expected(&[("0.0.0.0/0", PREFIX_ALLOWED)]));
}

/// Whether a source may send, as the documentation has it, without any list.
fn may_send(source: IpAddr, allow: &[Prefix], deny: &[Prefix]) -> bool {
    let is_in = |prefixes: &[Prefix]| {
        prefixes.iter().any(|prefix| Prefix::around(source, prefix.length()).address() == prefix.address())
    };
    !is_in(deny) && (allow.is_empty() || is_in(allow))
}

/// The verdict of the longest prefix, as the kernel finds it.
fn verdict(list: &Sources, source: IpAddr) -> Option<u32> {
    let mut around = (0..=128).rev().map(|length| Prefix::around(source, length));
    around.find_map(|prefix| list.get(&prefix).copied())
}

/// An address out of few, so that prefixes lie in one another and sources in them.
fn address(v6: bool) -> impl Strategy<Value = IpAddr> {
    (0_u8..4, prop::sample::select(vec![0_u8, 1, 128, 255]), 0_u8..4).prop_map(move |(a, b, c)| {
        let c = c << 6;
        if v6 {
            Ipv6Addr::from([0x20, 1, 0xd, 0xb8, a, b, 0, 0, c, 0, 0, 0, 0, 0, 0, c]).into()
        } else {
            Ipv4Addr::new(10 + a, b, 0, c).into()
        }
    })
}

fn prefix(v6: bool) -> impl Strategy<Value = Prefix> {
    (address(v6), 0_u8..=if v6 { 128 } else { 32 })
        .prop_map(|(address, length)| Prefix::around(address, length))
}

fn lists() -> impl Strategy<Value = (bool, Vec<Prefix>, Vec<Prefix>, Vec<IpAddr>)> {
    any::<bool>().prop_flat_map(|v6| {
        let list = || prop::collection::vec(prefix(v6), 0..12);
        (Just(v6), list(), list(), prop::collection::vec(address(v6), 1..40))
    })
}

proptest! {
    #[test]
    fn the_longest_prefix_says_what_both_lists_say((v6, allow, deny, sources) in lists()) {
        let any = if v6 { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
        let list = compile(&allow, &deny, Prefix::around(any, 0));
        for source in sources {
            let wanted = if may_send(source, &allow, &deny) { PREFIX_ALLOWED } else { PREFIX_DENIED };
            prop_assert_eq!(verdict(&list, source), Some(wanted), "{}", source);
        }
    }
}
