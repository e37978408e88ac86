//! The `synth` and `import` commands as they are typed.

use assert_cmd::Command;
use serde_json::Value;

fn program() -> Command {
    Command::cargo_bin("fragscope-replay").expect("the program is built with its tests")
}

fn json(args: &[&str]) -> Value {
    let output = program().args(args).output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the output is JSON")
}

#[test]
fn a_generated_trace_is_an_ordinary_one() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("small.fst");
    let trace = trace.to_str().unwrap();
    let made =
        json(&["synth", "--workload", "small", "--duration", "3s", "--output", trace, "--json"]);
    let info = json(&["info", trace, "--json"]);
    assert_eq!(made["events"], info["events"]);
    assert_eq!(made["trace_bytes"], info["trace_bytes"]);
    assert!(made["allocs"].as_u64().unwrap() > 100_000);
}

#[test]
fn a_printed_configuration_gives_the_same_trace() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (config, named, configured) = (path("small.json"), path("a.fst"), path("b.fst"));
    let small = ["synth", "--workload", "small", "--duration", "1s"];
    let printed = program().args(small).arg("--print-config").output().unwrap();
    std::fs::write(&config, printed.stdout).unwrap();
    program().args(small).args(["--output", &named]).assert().success();
    program().args(["synth", "--config", &config, "--output", &configured]).assert().success();
    assert_eq!(std::fs::read(named).unwrap(), std::fs::read(configured).unwrap());
}

/// Measured on its own output, a workload of known parts comes back.
#[test]
fn a_workload_like_a_trace_fits_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (first, second) = (path("first.fst"), path("second.fst"));
    let small = ["synth", "--workload", "small", "--duration", "5s", "--output", &first];
    program().args(small).assert().success();
    let like = json(&["synth", "--like", &first, "--output", &second, "--json"]);
    let distance = |name: &str| like["fit"][name].as_f64().unwrap();
    assert!((0.8..1.25).contains(&distance("rate_ratio")), "{}", like["fit"]);
    assert!(distance("order_distance") < 0.05, "{}", like["fit"]);
    assert!(distance("lifetime_distance") < 0.1, "{}", like["fit"]);
}

#[test]
fn mistakes_are_usage_errors_that_name_what_is_possible() {
    let refused = |args: &[&str], expected: &str| {
        let output = program().args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    };
    refused(&["synth", "--workload", "nothing", "--output", "-"], "headline-16g");
    refused(&["synth", "--workload", "small", "--memory", "17X", "--output", "-"], "K, M, G or T");
    refused(&["synth", "--workload", "small", "--nodes", "99", "--output", "-"], "1 to 64");
    refused(&["synth", "--output", "-"], "--workload");
}

#[test]
fn text_becomes_a_trace_that_says_what_was_inferred() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (text, trace) = (path("perf.txt"), path("perf.fst"));
    let lines = "cc 1 [000] 1.000001: kmem:mm_page_alloc: page=0x200000 pfn=0x200000 order=0 \
                 migratetype=1 gfp_flags=GFP_HIGHUSER_MOVABLE\n\
                 cc 1 [001] 1.000002: kmem:mm_page_free: page=0x200000 pfn=0x200000 order=0\n";
    std::fs::write(&text, lines).unwrap();
    let imported = json(&["import", &text, "--output", &trace, "--memory", "16G", "--json"]);
    assert_eq!(imported["events"], 2);
    assert!(imported["inferred"].to_string().contains("16384 MiB"), "{imported}");
    assert_eq!(json(&["info", &trace, "--json"])["events"], 2);
}
