//! What tracing costs here, and that nothing of the measurement stays.

use serde_json::Value;

use crate::common::{agent, turn};

fn leftovers() -> usize {
    let ours = |name: &str| name.starts_with("fragscope-cost-");
    let instances = std::fs::read_dir("/sys/kernel/tracing/instances").into_iter().flatten();
    instances.flatten().filter(|entry| ours(&entry.file_name().to_string_lossy())).count()
}

#[test]
fn every_way_is_measured_or_says_why_not() {
    let Some(_turn) = turn() else { return };
    let run = agent().args(["cost", "--rounds", "2", "--mib", "16", "--json"]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert!(report["base_ns_per_event"]["median"].as_f64().unwrap() > 10.0, "{report}");
    let full = &report["full"]["added_ns_per_event"];
    let of = |end: &str| full[end].as_f64().unwrap();
    assert!(of("low") <= of("median") && of("median") <= of("high"), "{report}");
    assert!(report["full"]["reader_ns_per_event"].as_f64().unwrap() > 0.0, "{report}");
    for way in ["count", "floor"] {
        assert!(report[way]["added_ns_per_event"]["median"].is_f64(), "{report}");
    }
    for way in ["ftrace", "perf"] {
        let measured = report[way]["added_ns_per_event"]["median"].is_f64();
        assert_ne!(measured, report[way]["unavailable"].is_string(), "{report}");
    }
    assert_eq!(leftovers(), 0, "an instance of ftrace stayed");
}

#[test]
fn memory_that_is_not_there_is_not_taken() {
    let Some(_turn) = turn() else { return };
    let run = agent().args(["cost", "--mib", "65536"]).output().unwrap();
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(1), "{text}");
    assert!(text.contains("needs twice that available"), "{text}");
}
