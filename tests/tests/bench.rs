//! The measuring itself, in the shortest run there is: what comes out is complete, every packet took its path. What
//! the figures are is not for a test on a busy machine to say.

use lbx_tests::bench::{self, Size};

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
    for (part, count) in
        [("start from", 3), ("(RSS)", 4), ("verdict to state bits", 4), ("to the last store", 2)]
    {
        assert_eq!(named(part), count, "{part}: {json}");
    }
    for case in cases {
        let (value, target) = (case["value"].as_f64().unwrap(), case["target"].as_f64());
        assert!(value >= 0.0 && case["unit"].is_string(), "{case}");
        assert_eq!(case["met"].as_bool(), target.map(|target| value <= target), "{case}");
    }
    let with_target = cases.iter().filter(|case| case["target"].is_number()).count();
    assert_eq!(with_target, 15, "{json}");
    assert_eq!(figures.to_string().lines().count(), cases.len() + 1, "{figures}");
}
