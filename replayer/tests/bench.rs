//! The command `fragscope-replay bench`.

use assert_cmd::Command;

fn bench(args: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = Command::cargo_bin("fragscope-replay").expect("the program is built");
    command.arg("bench").args(args).assert()
}

#[test]
fn every_part_has_a_rate_within_its_spread() {
    let run = bench(&["tests/data/tiny.fst", "--repeat", "2", "--json"]).success();
    let report: serde_json::Value =
        serde_json::from_slice(&run.get_output().stdout).expect("one JSON object");
    for part in ["decode", "encode", "kernel", "stock", "spb", "spb_bitmap", "pipeline"] {
        let median = report["events_per_second"][part].as_f64().expect(part);
        let of = |end: &str| report["spread"][part][end].as_f64().expect(part);
        assert!(of("low") > 0.0 && of("low") <= median && median <= of("high"), "{part}: {report}");
    }
    assert_eq!(report["repeats"], 2);
    assert!(report["bytes_per_event"].as_f64().is_some_and(|bytes| (0.5..40.0).contains(&bytes)));
}

#[test]
fn only_the_parts_asked_for_are_measured() {
    let run =
        bench(&["tests/data/tiny.fst", "--repeat", "1", "--part", "stock", "--json"]).success();
    let report: serde_json::Value =
        serde_json::from_slice(&run.get_output().stdout).expect("one JSON object");
    let parts = report["events_per_second"].as_object().expect("rates by part");
    assert_eq!(parts.keys().collect::<Vec<_>>(), ["stock"]);
    assert!(report["pipeline_cpu_ns_per_event"].is_null());
    bench(&["tests/data/tiny.fst", "--part", "everything"]).code(2);
}

#[test]
fn what_is_no_trace_is_said_to_be_none() {
    bench(&["Cargo.toml", "--repeat", "1"]).code(1);
    bench(&["--repeat", "0"]).code(2);
    bench(&["--set", "spb_index=best"]).code(2);
}
