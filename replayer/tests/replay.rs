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

/// The v2 protocol never falls back to the zone for a remote free; v1 does when holds are long.
#[test]
fn locks_are_counted_by_policy_and_protocol() {
    let locks = |protocol: &str, hold: &str| {
        let (protocol, hold) = (format!("free_path={protocol}"), format!("hold_hit_ns={hold}"));
        let args = ["run", TINY, "--policy", "spb", "--json", "--set", &protocol, "--set", &hold];
        json(&args)["tracks"][0]["runs"][0]["locks"].clone()
    };
    let count = |locks: &Value, name: &str| locks[name].as_u64().unwrap();
    let v2 = locks("local-trylock-remote-llist", "20000");
    assert_eq!(v2["free_path"], "local-trylock-remote-llist");
    assert!(count(&v2, "remote_frees") > 0, "{v2}");
    assert_eq!(count(&v2, "zone_fallbacks_remote_free"), 0);
    assert!(count(&v2, "stranded_remote_pages_max") > 0);
    assert!(count(&v2, "stranded_remote_age_max_ns") > 0);
    let v1 = locks("trylock-zone", "20000");
    let fallbacks = count(&v1, "zone_fallbacks_remote_free");
    assert!(fallbacks > 0 && count(&v1, "zone_locks") > count(&v2, "zone_locks"), "{v1}");
    assert_eq!(count(&v1, "stranded_remote_pages_max"), 0);
    let by_whom = ["remote_free", "own_free", "alloc"].map(|who| format!("zone_fallbacks_{who}"));
    let by_whom: u64 = by_whom.iter().map(|name| count(&v1, name)).sum();
    let by_deed: u64 =
        ["busy_hit", "busy_refill", "busy_drain"].map(|d| count(&v1, d)).iter().sum();
    let failures = count(&v1, "trylock_failures");
    assert_eq!((by_whom, by_deed), (failures, failures));
    let never = locks("trylock-zone", "0");
    assert!(count(&never, "zone_fallbacks_remote_free") < fallbacks);
    let blocking = locks("blocking", "20000");
    assert_eq!(count(&blocking, "trylock_failures"), 0);
    assert!(count(&blocking, "lock_wait_ns") > count(&blocking, "lock_waits"));
    let stock = json(&["run", TINY, "--policy", "stock", "--json"]);
    let stock = &stock["tracks"][0]["runs"][0]["locks"];
    assert!(stock["free_path"].is_null() && count(stock, "remote_frees") == 0, "{stock}");
    assert!(stock["pcp_hits_per_1000_lookups"].as_f64() > Some(500.0), "{stock}");
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
fn fidelity_names_every_figure_and_its_null_model() {
    let report = json(&["fidelity", TINY, "--json", "--granted", "none"]);
    let fields = "free_pages_error_ratio buddy_free_error_ratio order_distance \
         tainted_regions_kernel tainted_regions_stock tainted_regions_difference \
         type_change_precision type_change_recall null_order_distance \
         null_tainted_regions_difference unmatched_frees lost_events checkpoints criteria probe";
    for field in fields.split_whitespace() {
        assert!(report.get(field).is_some(), "{field} is missing");
    }
    assert_eq!(report["free_pages_error_ratio"], 0.0);
    assert_eq!(report["checkpoints"].as_array().unwrap().len(), 1);
    let text = printed(&["fidelity", TINY]);
    for part in ["null model", "order distance", "precision", "recall", "unmatched frees", "holds:"]
    {
        assert!(text.contains(part), "{part} is missing from\n{text}");
    }
    assert_eq!(printed(&["fidelity", TINY]), text, "the same each time");
}

#[test]
fn granted_pages_must_be_possible() {
    for wrong in ["0x40001", "4GiB", ""] {
        let (status, said) = failed(&["fidelity", TINY, "--granted", wrong]);
        assert_eq!(status, 2, "{said}");
    }
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

#[test]
fn tracepoints_of_the_series_are_written_as_json_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let file = path.to_str().unwrap();
    let run = ["run", TINY, "--policy", "spb", "--json"];
    let counters = |more: &[&str]| {
        let comparison = json(&[&run[..], more].concat());
        comparison["tracks"][0]["runs"][0]["counters"].clone()
    };
    let count = |what: &str| {
        let text = std::fs::read_to_string(file).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["event"] == what).count() as u64
    };
    let all = counters(&["--events", file]);
    let sum = |names: &[&str]| names.iter().filter_map(|n| all[n].as_u64()).sum::<u64>();
    assert_eq!(count("spb_pb_taint"), sum(&["has_bits_set", "has_bits_cleared"]));
    let outcomes = ["no_page", "pass_1", "pass_2", "pass_2b", "pass_2c", "pass_2d", "pass_3"];
    assert_eq!(count("spb_alloc_walk"), sum(&outcomes) + sum(&["pass_4", "zone_fallback"]));
    assert!(count("spb_alloc_walk") > 100);
    counters(&["--events", file, "--event-names", "spb_pb_taint"]);
    assert_eq!(count("spb_alloc_walk"), 0);
    assert_eq!(count("spb_pb_taint"), sum(&["has_bits_set", "has_bits_cleared"]));

    let (status, said) = failed(&[&run[..], &["--events", file, "--event-names", "tea"]].concat());
    assert!(status == 2 && said.contains("spb_alloc_walk"), "{said}");
    let (status, said) = failed(&[&run[..], &["--events", "/no/such/dir/file"]].concat());
    assert!(status == 1 && said.contains("/no/such/dir/file"), "{said}");
    let (status, said) = failed(&["run", TINY, "--policy", "stock", "--events", file]);
    assert!(status == 2 && said.contains("--policy spb"), "{said}");
}

/// The file's name decides; a build without Parquet says so instead of writing something else.
#[test]
fn tracepoints_of_the_series_are_written_as_parquet() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.parquet");
    let run = ["run", TINY, "--policy", "spb", "--json", "--events", path.to_str().unwrap()];
    if cfg!(feature = "analysis") {
        json(&run);
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    } else {
        let (status, said) = failed(&run);
        assert!(status == 2 && said.contains("analysis") && said.contains("JSON lines"), "{said}");
        assert!(!path.exists());
    }
}

#[test]
fn superpageblocks_and_free_lists_are_shown_at_the_end() {
    let text = printed(&["run", TINY, "--policy", "spb", "--debugfs"]);
    let zones = fragscope_replay::mm::spb::debugfs::parse(&text).unwrap();
    assert_eq!(fragscope_replay::mm::spb::debugfs::print(&zones), text);
    assert!(zones.iter().any(|zone| !zone.superpageblocks.is_empty()));
    let shown = json(&["run", TINY, "--policy", "spb", "--debugfs", "--json"]);
    let run = &shown["tracks"][0]["runs"][0];
    let in_json = run["memory_files"]["superpageblocks"].as_array().unwrap();
    assert_eq!(in_json.len(), zones.len());
    let walks: u64 = run["superpageblock_visits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bucket| bucket["walks"].as_u64().unwrap())
        .sum();
    assert!(walks > 100, "the histogram is empty");
    for policy in ["stock", "spb"] {
        let text = printed(&["run", TINY, "--policy", policy, "--free-lists"]);
        for part in ["zone    DMA32", "Free pages count per migrate type", "*4kB"] {
            assert!(text.contains(part), "{part} is missing from\n{text}");
        }
    }
    let (status, said) = failed(&["run", TINY, "--policy", "stock", "--debugfs"]);
    assert!(status == 2 && said.contains("--policy spb"), "{said}");
}

/// Patch 34: page tables made movable (as an experiment) leave the policy less that taints.
#[test]
fn p34_retyped_allocations_are_movable() {
    let unmovable = |more: &[&str]| {
        let run = json(&[&["run", TINY, "--policy", "spb", "--json"], more].concat());
        run["tracks"][0]["unmovable_pages"]["min"].as_u64().unwrap()
    };
    let retyped = unmovable(&["--retype-movable", "__pte_alloc"]);
    assert!(retyped < unmovable(&[]), "{retyped} pages are still not movable");
    let nobody = ["run", TINY, "--policy", "spb", "--retype-movable", "btrfs_alloc_tree"];
    let (status, said) = failed(&nobody);
    assert!(status == 1 && said.contains("btrfs_alloc_tree"), "{said}");
}

#[test]
fn pages_of_a_gigabyte_are_asked_for_at_the_end() {
    let run = json(&["run", TINY, "--policy", "spb", "--ask-1g", "3", "--json"]);
    let asked = &run["tracks"][0]["runs"][0]["asked_1g"];
    assert_eq!(asked["asked"], 3);
    let obtainable = run["tracks"][0]["obtainable_1g"]["max"].as_u64().unwrap();
    assert!(asked["obtained"].as_u64().unwrap() <= obtainable.max(3));
    let (status, said) = failed(&["run", TINY, "--policy", "kernel", "--ask-1g", "3"]);
    assert!(status == 2 && said.contains("--policy"), "{said}");
}
