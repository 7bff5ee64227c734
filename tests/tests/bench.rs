//! The measuring itself, in the shortest run there is: what comes out is complete, every packet took its path. What
//! the figures are is not for a test on a busy machine to say.

use lbx_tests::bench;

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
