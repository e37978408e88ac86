//! The program `fragscope-replay`, as it is typed: results, repeatability, and bad input.
//!
//! `data/tiny.fst` is 0.2 s of a synthetic machine:
//! `fragscope-replay synth --workload small --duration 0.2s --seed 3 --output tiny.fst`.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use assert_cmd::Command;
use fragscope_trace::event::{EventBatch, PageEvent};
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{CpuId, Pfn};
use fragscope_trace::reader::TraceReader;
use fragscope_trace::writer::TraceWriter;
use serde_json::Value;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny.fst");

fn program() -> Command {
    Command::cargo_bin("fragscope-replay").unwrap()
}

fn replay(args: &[&str]) -> Output {
    program().args(args).output().unwrap()
}

fn printed(args: &[&str]) -> String {
    let output = replay(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&printed(args)).unwrap()
}

/// Exit status and what was said.
fn failed(args: &[&str]) -> (i32, String) {
    let output = replay(args);
    assert!(output.stdout.is_empty(), "{args:?} printed a result");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn in_file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn info_tells_what_is_in_it() {
    let info = json(&["info", TINY, "--json"]);
    assert_eq!(info["events"], 89_851);
    assert_eq!(info["lost_events"], 0);
    assert_eq!(info["snapshots"].as_array().unwrap().len(), 2);
    assert!(info["truncated"].is_null());
    let text = printed(&["info", TINY]);
    for part in ["Linux 6.18", "89,851", "Opening", "Closing", "lost events"] {
        assert!(text.contains(part), "{part} is missing from\n{text}");
    }
}

/// The kernel track depends on the trace alone, so its text is pinned.
#[test]
fn run_kernel_is_pinned() {
    let expected = include_str!("data/tiny.kernel.txt");
    assert_eq!(printed(&["run", "--policy", "kernel", TINY]), expected);
}

#[test]
fn compare_names_every_measure_of_every_track() {
    let comparison = json(&["compare", TINY, "--seeds", "2", "--json"]);
    let tracks = comparison["tracks"].as_array().unwrap();
    let names: Vec<String> = tracks
        .iter()
        .map(|t| format!("{} {}", t["policy"].as_str().unwrap(), t["start"].as_str().unwrap()))
        .collect();
    let expected = [
        "kernel as-found",
        "stock as-found",
        "spb as-found",
        "stock from-boot",
        "spb from-boot",
        "stock from-boot-ideal",
        "spb from-boot-ideal",
    ];
    assert_eq!(names, expected);
    let measures = [
        "free_1g",
        "evacuable_1g",
        "obtainable_1g",
        "tainted_1g",
        "floor_1g",
        "has_bit_tainted_1g",
        "block_type_tainted_1g",
        "unmovable_pages",
        "events_replayed",
        "unmatched_frees",
        "refused",
        "moved_pages",
        "reclaimed_pages",
        "lost_events",
    ];
    for track in tracks {
        for measure in measures {
            assert!(track.get(measure).is_some(), "{measure} is missing from {}", track["policy"]);
        }
    }
    assert_eq!(tracks[3]["seeds"], serde_json::json!([1, 2]));
    let unmovable = |track: &Value| track["unmovable_pages"]["min"].as_u64().unwrap();
    assert!(unmovable(&tracks[0]) > 1000);
    assert_eq!(unmovable(&tracks[0]), unmovable(&tracks[2]), "both hold the same workload");
    for verdict in comparison["verdicts"].as_array().unwrap() {
        for part in ["text", "why", "price"] {
            assert!(!verdict[part].as_str().unwrap().is_empty());
        }
        assert!(!verdict["paths"].as_object().unwrap().is_empty());
    }
    let fidelity = &comparison["trace"]["fidelity"][0];
    assert_eq!(fidelity["raw_difference_pages"], 0);
}

#[test]
fn a_comparison_is_the_same_every_time() {
    let args = ["compare", TINY, "--seeds", "2", "--json"];
    let first = printed(&args);
    assert_eq!(printed(&args), first);
    let one_by_one = ["compare", TINY, "--seeds", "2", "--json", "--jobs", "1"];
    assert_eq!(printed(&one_by_one), first, "it depends on the number of threads");
    let other = printed(&["run", TINY, "--policy", "stock", "--start", "from-boot", "--json"]);
    let seed2 = printed(&[
        "run",
        TINY,
        "--policy",
        "stock",
        "--start",
        "from-boot",
        "--seed",
        "2",
        "--json",
    ]);
    assert_ne!(other, seed2, "the seed changes nothing");
}

#[test]
fn lines_of_a_table_fit_a_mail() {
    let text = printed(&["compare", TINY, "--seeds", "2"]);
    for line in text.lines() {
        assert!(line.chars().count() <= 78, "too long: {line}");
    }
    assert!(text.contains("From the state as found") && text.contains("Had it ruled since boot"));
}

#[test]
fn standard_input_is_a_trace_too() {
    let bytes = std::fs::read(TINY).unwrap();
    let args = ["run", "--policy", "kernel", "-"];
    let output = program().args(args).write_stdin(bytes).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), include_str!("data/tiny.kernel.txt"));
}

#[test]
fn settings_change_the_result_and_mistakes_are_named() {
    let run =
        |more: &[&str]| printed(&[&["run", TINY, "--policy", "spb", "--json"], more].concat());
    assert_ne!(run(&["--disable", "p02,p21"]), run(&[]));
    let (status, said) = failed(&["run", TINY, "--policy", "spb", "--disable", "p99"]);
    assert!(status == 2 && said.contains("p99") && said.contains("p21"), "{said}");
    let (status, said) = failed(&["run", TINY, "--policy", "spb", "--set", "p21"]);
    assert!(status == 2 && said.contains("NAME=VALUE"), "{said}");
    let (status, said) = failed(&["run", TINY, "--policy", "kernel", "--start", "from-boot"]);
    assert!(status == 2 && said.contains("as-found"), "{said}");
    let names = json(&["policies", "--json"]);
    assert!(names.as_array().unwrap().iter().any(|setting| setting["name"] == "p21"));
}

#[test]
fn what_is_no_trace_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = in_file(dir.path(), "text", b"hello, this is not a trace at all");
    let missing = dir.path().join("missing");
    for path in [&text, &missing] {
        for command in [&["info"][..], &["run", "--policy", "kernel"], &["compare"]] {
            let (status, said) = failed(&[command, &[path.to_str().unwrap()]].concat());
            assert!(status == 1 && said.contains(path.to_str().unwrap()), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
    assert_eq!(replay(&["compare"]).status.code(), Some(2), "no file is wrong usage");
}

#[test]
fn a_cut_trace_is_replayed_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(TINY).unwrap();
    let mut replayed = 0;
    for cut in (0..bytes.len()).step_by(4999) {
        let path = in_file(dir.path(), "cut", &bytes[..cut]);
        let output = replay(&["run", "--policy", "stock", path.to_str().unwrap()]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("panicked"), "cut at {cut}: {said}");
        if output.status.success() {
            replayed += 1;
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains("cut off at byte"), "cut at {cut} is not mentioned:\n{text}");
        } else {
            assert_eq!(output.status.code(), Some(1), "cut at {cut}: {said}");
        }
    }
    assert!(replayed > 5, "only {replayed} of the cuts could be replayed");
}

/// The header and the events of the tiny trace, without its snapshots.
fn without_snapshots() -> Vec<u8> {
    let reader = TraceReader::new(std::fs::File::open(TINY).unwrap()).unwrap();
    let mut bytes = Vec::new();
    let mut writer = TraceWriter::new(&mut bytes, reader.header()).unwrap();
    let event = |pfn| PageEvent::alloc(5_000_000_000, CpuId(0), Pfn(pfn), 0, Gfp::KERNEL);
    let pages = (70_000..70_100).map(event).collect();
    writer.events(&EventBatch { pages, sides: Vec::new() }).unwrap();
    bytes
}

#[test]
fn without_a_snapshot_only_the_kernel_can_be_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = in_file(dir.path(), "bare", &without_snapshots());
    let path = path.to_str().unwrap();
    for command in [&["run", "--policy", "stock"][..], &["compare"]] {
        let (status, said) = failed(&[command, &[path]].concat());
        assert!(status == 1 && said.contains("no snapshot"), "{said}");
    }
    let kernel = json(&["run", "--policy", "kernel", path, "--json"]);
    assert_eq!(kernel["tracks"][0]["unmovable_pages"]["min"], 100);
    assert!(printed(&["info", path]).contains("no policy can begin"));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_fragscope-replay"))
        .args(["policies"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
