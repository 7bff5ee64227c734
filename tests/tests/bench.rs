//! The measuring itself, in the shortest run there is: what comes out is complete, every packet took its path. What
//! the figures are is not for a test on a busy machine to say.

use lbx_tests::bench::{self, Load, Size};

#[test]
fn every_case_of_the_data_path_is_measured_on_its_path() {
    let mut samples = 0;
    let report = bench::datapath(1, "", &mut |_| samples += 1).unwrap();
    assert_eq!(samples, 1);
    let json = report.to_json();
    let cases = json["cases"].as_array().unwrap();
    assert!(cases.len() >= 13, "{json}");
    for case in cases {
        for field in ["ns", "floor_ns", "over_floor_ns", "p10_ns", "p90_ns"] {
            assert!(case[field].is_number(), "{field} of {case}");
        }
        // A tail call takes about a nanosecond, which one sample may not see.
        assert!(case["ns"].as_f64().unwrap() > 0.0 || case["name"] == "a tail call", "{case}");
        let met = case["target_ns"].as_f64().map(|target| case["over_floor_ns"].as_f64().unwrap() <= target);
        assert_eq!(case["met"].as_bool(), met, "{case}");
    }
    assert!(json["machine"]["kernel"].as_str().is_some_and(|kernel| !kernel.is_empty()), "{json}");
    let table = report.to_string();
    assert_eq!(table.lines().count(), cases.len() + 1, "{table}");
}

#[test]
fn every_figure_of_the_agent_at_scale_comes_out() {
    let figures = bench::scale(Size::SHORT, &mut |_| ()).unwrap();
    let json = figures.to_json();
    let cases = json["cases"].as_array().unwrap();
    let named =
        |part: &str| cases.iter().filter(|case| case["name"].as_str().unwrap().contains(part)).count();
    for (part, count) in [
        ("start from", 3),
        ("(RSS)", 4),
        ("verdict to state bits", 4),
        ("to the last store", 2),
        ("every second", 2),
    ] {
        assert_eq!(named(part), count, "{part}: {json}");
    }
    for case in cases {
        let (value, target) = (case["value"].as_f64().unwrap(), case["target"].as_f64());
        assert!(value >= 0.0 && case["unit"].is_string(), "{case}");
        assert_eq!(case["met"].as_bool(), target.map(|target| value <= target), "{case}");
    }
    let with_target = cases.iter().filter(|case| case["target"].is_number()).count();
    assert_eq!(with_target, 16, "{json}");
    assert_eq!(figures.to_string().lines().count(), cases.len() + 1, "{figures}");
}

#[test]
fn every_way_is_taken_end_to_end() {
    let mut rounds = Vec::new();
    let compared = bench::e2e(Load::SHORT, &mut |what| rounds.push(what.to_owned())).unwrap();
    let json = compared.to_json();
    let ways = json["ways"].as_array().unwrap();
    let names: Vec<_> = ways.iter().map(|way| way["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["direct", "tunnel", "lbx", "nftables", "haproxy"]);
    assert_eq!(rounds.len(), ways.len(), "{rounds:?}");
    for way in ways {
        let name = way["name"].as_str().unwrap();
        let both = |field: &str| [0, 1].map(|origin| way[field][origin].as_u64().unwrap());
        let (connections, packets) = (both("origin_connections"), both("origin_packets"));
        assert!(connections.iter().all(|count| *count > 0), "{way}");
        assert_eq!(connections.iter().sum::<u64>(), u64::from(Load::SHORT.connections), "{way}");
        // A kernel's queue may be full on a busy machine; HAProxy has no UDP.
        assert_eq!(packets.iter().all(|count| *count > 0), name != "haproxy", "{way}");
        assert_eq!(way["packets"].is_object(), name != "haproxy", "{way}");
        // What each balancer says itself.
        let counted = |field: &str| way[field].as_u64();
        let (connections, packets) = (connections.iter().sum::<u64>(), packets.iter().sum::<u64>());
        match name {
            "lbx" | "nftables" | "haproxy" => {
                assert!(counted("counted_connections") >= Some(connections), "{way}");
            }
            _ => assert_eq!(counted("counted_connections"), None, "{way}"),
        }
        match name {
            "haproxy" => assert_eq!(counted("counted_packets"), None, "{way}"),
            _ => assert!(counted("counted_packets") > Some(packets), "{way}"),
        }
        for field in ["latency_p50_us", "latency_p99_us"] {
            assert!(way[field]["median"].as_f64().unwrap() > 0.0, "{field} of {way}");
        }
    }
    let table = compared.to_string();
    assert_eq!(table.lines().count(), 2 * (ways.len() + 1) + 1, "{table}");
}
