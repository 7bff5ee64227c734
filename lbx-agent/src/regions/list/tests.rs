//! Good files, and each wrong line with its message.

use super::*;

fn parse(text: &str) -> RegionList {
    RegionList::parse(text.as_bytes()).unwrap()
}

#[track_caller]
fn mistakes(text: &[u8]) -> Vec<String> {
    RegionList::parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

fn found(list: &RegionList, address: &str) -> Option<(String, String)> {
    let (prefix, region) = list.find(address.parse().unwrap())?;
    Some((prefix.to_string(), list.regions()[&region].0.clone()))
}

#[test]
fn the_longest_prefix_of_either_family_says_the_region() {
    let list = parse(
        "# prefix,region\n10.0.0.0/8,eu\r\n10.1.0.0/16 , US\n\n 10.1.2.0/24,eu\n2001:db8::/32,us\n0.0.0.0/0,rest\n",
    );
    let of = |address, prefix: &str, region: &str| {
        assert_eq!(found(&list, address), Some((prefix.to_owned(), region.to_owned())));
    };
    of("10.2.0.1", "10.0.0.0/8", "eu");
    of("10.1.255.255", "10.1.0.0/16", "us");
    of("10.1.2.3", "10.1.2.0/24", "eu");
    of("2001:db8:ffff::1", "2001:db8::/32", "us");
    of("192.0.2.1", "0.0.0.0/0", "rest");
    assert_eq!(found(&list, "2001:db9::1"), None);
    let counts: Vec<(&str, usize)> =
        list.regions().values().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<usize>(), 5);
    assert!(counts.contains(&("eu", 2)) && counts.contains(&("us", 2)), "{counts:?}");
}

#[test]
fn a_list_is_known_by_what_it_says_and_not_by_how() {
    let list = parse("10.0.0.0/8,eu\n2001:db8::/32,us\n");
    assert_eq!(list, parse("\u{feff}# x\n2001:DB8::/32,US\r\n10.0.0.0/8,eu\n10.0.0.0/8,eu\n"));
    let others = [
        "",
        "10.0.0.0/8,eu\n",
        "10.0.0.0/8,us\n2001:db8::/32,us\n",
        "10.0.0.0/9,eu\n2001:db8::/32,us\n",
        "10.0.0.0/8,eu\n2001:db8::/33,us\n",
        "11.0.0.0/8,eu\n2001:db8::/32,us\n",
        "10.0.0.0/8,eu\n2001:db8:0:0:1::/80,us\n",
        "10.0.0.0/8,eu\n2001:db8:0:0:2::/80,us\n",
    ];
    let ids: std::collections::BTreeSet<u32> =
        others.iter().map(|text| parse(text).id()).chain([list.id()]).collect();
    assert_eq!(ids.len(), others.len() + 1);
    assert!(ids.iter().all(|id| id & IS_LIST != 0));
}

#[test]
fn each_wrong_line_is_named_with_what_would_be_right() {
    let form = "is not a name: write 1 to 63 of a-z, 0-9, `.`, `_` and `-`, with a letter or digit in front";
    for (line, expected) in [
        ("10.0.0.0/8", "`10.0.0.0/8` is no line of this file: write it as `192.0.2.0/24,eu`".to_owned()),
        ("network,country", "`network` is not a prefix: write it as `192.0.2.0/24` or `2001:db8::/32`".to_owned()),
        (
            "10.0.0.1/8,eu",
            "`10.0.0.1/8` has bits set behind the length: write `10.0.0.0/8`, or `10.0.0.1/32` for this one address"
                .to_owned(),
        ),
        ("10.0.0.0/33,eu", "`10.0.0.0/33` is longer than an address: IPv4 addresses have 32 bits".to_owned()),
        ("10.0.0.7,eu", "`10.0.0.7` has no length: write `10.0.0.7/32` for this one address".to_owned()),
        ("10.0.0.0/8,a,b", format!("`a,b` {form}")),
        ("10.0.0.0/8,\"eu\"", format!("`\"eu\"` {form}")),
        ("10.0.0.0/8,", "the name is empty: write 1 to 63 of a-z, 0-9, `.`, `_` and `-`, with a letter or digit in \
          front".to_owned()),
    ] {
        assert_eq!(mistakes(format!("# x\n10.9.0.0/16,eu\n{line}\n").as_bytes()), [format!("line 3: {expected}")]);
    }
}

#[test]
fn several_mistakes_are_reported_at_once_and_hostile_files_not_without_end() {
    let three = mistakes(b"10.0.0.0/8,eu\nx\n10.0.0.0/8,us\n::/0,eu\n\xef\xbb\xbf::/0,US\n");
    assert_eq!(
        three,
        [
            "line 2: `x` is no line of this file: write it as `192.0.2.0/24,eu`",
            "line 3: 10.0.0.0/8 is in line 1 already, and in another region (`eu` and `us`): keep one",
            "line 5: ::/0 is in line 4 already, and in another region (`eu` and `us`): keep one",
        ]
    );
    assert_eq!(mistakes(b"10.0.0.0/8,eu\n\xff\n"), ["line 2: this is not text: write the file in UTF-8"]);
    assert_eq!(mistakes("x\n".repeat(100_000).as_bytes()).len(), MAX_MISTAKES);
    let long = mistakes(format!("{},eu\n", "9".repeat(1 << 20)).as_bytes());
    assert!(long.len() == 1 && long[0].len() < 200, "{long:?}");
    let lines = (0..=MAX_REGION_PREFIXES).map(|n| format!("{}/32,eu", std::net::Ipv4Addr::from(n)));
    let more = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(
        mistakes(more.as_bytes()),
        ["line 2000001: there are more prefixes than lbx takes, which are 2000000"]
    );
}
