//! Without a terminal: one comparison, a picture, and errors that say what to do.

#[path = "terminal/recording.rs"]
mod recording;

use std::fs::File;
use std::path::PathBuf;
use std::process::Output;

use assert_cmd::Command;
use fragscope::engine::keep::Keeper;
use fragscope_trace::event::{
    CountedPlace, EventBatch, RegionCount, SideEvent, SideKind, TypeOrderCount,
};
use fragscope_trace::frame::Frame;
use fragscope_trace::header::{Header, TraceMode};
use fragscope_trace::page::Migratetype;
use fragscope_trace::reader::TraceReader;
use fragscope_trace::writer::TraceWriter;
use tempfile::TempDir;

fn trace() -> (PathBuf, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("small.fst");
    recording::write(&path);
    (path, dir)
}

fn run(args: &[&str]) -> Output {
    Command::cargo_bin("fragscope").expect("built").args(args).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_comparison_has_the_fields_of_compare() {
    let (path, _dir) = trace();
    let output = run(&[path.to_str().expect("plain"), "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["mode"], "recording");
    assert_eq!(json["trace"]["hostname"], "testhost");
    let tracks = json["tracks"].as_array().expect("a list");
    let names: Vec<_> = tracks.iter().map(|t| (t["policy"].clone(), t["start"].clone())).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    for track in tracks {
        for field in [
            "free_1g",
            "evacuable_1g",
            "obtainable_1g",
            "tainted_1g",
            "floor_1g",
            "unmovable_pages",
            "unmatched_frees",
            "refused",
            "moved_pages",
            "reclaimed_pages",
            "lost_events",
            "events_replayed",
        ] {
            assert!(!track[field].is_null(), "{field} of {}", track["policy"]);
        }
    }
    assert_eq!(tracks[0]["free_1g"]["min"], 2, "two of four regions are free");
    assert_eq!(tracks[0]["tainted_1g"]["min"], 1);
}

#[test]
fn without_a_terminal_a_summary_is_printed() {
    let (path, _dir) = trace();
    let output = run(&[path.to_str().expect("plain")]);
    assert!(output.status.success());
    let out = text(&output.stdout);
    assert!(out.contains("1 GiB obtainable") && out.contains("testhost"), "{out}");
    assert!(!out.contains('\x1b'), "no control sequences in a pipe");
}

#[test]
fn a_trace_through_a_pipe_gives_the_same_comparison() {
    let (path, _dir) = trace();
    let bytes = std::fs::read(&path).expect("just written");
    let mut piped = Command::cargo_bin("fragscope").expect("built");
    let piped = piped.args(["-", "--json"]).write_stdin(bytes).output().expect("it runs");
    let file = run(&[path.to_str().expect("plain"), "--json"]);
    let tracks = |bytes: &[u8]| {
        let json: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
        json["tracks"].clone()
    };
    assert_eq!(tracks(&piped.stdout), tracks(&file.stdout));
}

#[test]
fn a_cut_trace_is_shown_as_far_as_it_goes() {
    let (path, dir) = trace();
    let bytes = std::fs::read(&path).expect("just written");
    let cut = dir.path().join("cut.fst");
    std::fs::write(&cut, &bytes[..bytes.len() * 2 / 3]).expect("written");
    let output = run(&[cut.to_str().expect("plain"), "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(json["note"].as_str().is_some_and(|n| n.contains("cut off")), "{}", json["note"]);
}

/// The small recording as count mode would have made it: a header, a snapshot, and counts of the
/// second region.
fn counted(dir: &TempDir, allocated: u64) -> PathBuf {
    let (path, _dir) = trace();
    let mut reader = TraceReader::new(File::open(path).expect("just written")).expect("a trace");
    let header = Header { mode: TraceMode::Count, ..reader.header().clone() };
    let to = dir.path().join("counted.fst");
    let mut writer =
        TraceWriter::new(File::create(&to).expect("a file"), &header).expect("written");
    let Some(Frame::Snapshot(snapshot)) = reader.next_frame().expect("a frame") else {
        panic!("a snapshot comes first");
    };
    writer.snapshot(&snapshot).expect("written");
    let (migratetype, order) = (Migratetype::Movable, 0);
    let regions = vec![RegionCount {
        place: CountedPlace::Region(3),
        allocs: vec![TypeOrderCount { migratetype, order, count: allocated }],
        frees: Vec::new(),
    }];
    let since_ns = snapshot.end_ns + 1;
    let kind = SideKind::RegionCounts { since_ns, regions };
    let mut batch = EventBatch::default();
    batch.push_side(SideEvent { time_ns: since_ns + 1_000_000_000, cpu: None, kind });
    writer.events(&batch).expect("written");
    to
}

#[test]
fn count_mode_has_the_kernels_track_alone_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let free = |allocated| {
        let path = counted(&dir, allocated);
        let output = run(&[path.to_str().expect("plain"), "--json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(json["note"].as_str().is_some_and(|n| n.contains("count mode")), "{json}");
        assert_eq!(json["tracks"].as_array().map(Vec::len), Some(1), "{json}");
        json["tracks"][0]["free_pages"]["max"].as_u64().expect("a number")
    };
    assert_eq!(free(0) - free(1000), 1000);
    let (path, svg) = (counted(&dir, 5), dir.path().join("counted.svg"));
    let args = ["--view", "health", "--svg", svg.to_str().expect("plain")];
    let output = run(&[&[path.to_str().expect("plain")], &args[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let screen = std::fs::read_to_string(svg).expect("written");
    assert!(screen.contains("count mode"), "the screen says what is not known");
}

#[test]
fn a_picture_shows_the_screen() {
    let (path, dir) = trace();
    let svg = dir.path().join("screen.svg");
    let (from, to) = (path.to_str().expect("plain"), svg.to_str().expect("plain"));
    let output = run(&[from, "--view", "regions", "--size", "100x30", "--svg", to]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let svg = std::fs::read_to_string(svg).expect("written");
    assert!(svg.starts_with("<svg") && svg.contains("testhost") && svg.contains("tainted"));
}

#[test]
fn what_is_kept_is_saved_as_a_recording() {
    let (path, dir) = trace();
    let frames = |path: &std::path::Path| {
        let file = std::fs::File::open(path).expect("it exists");
        let mut reader = TraceReader::new(file).expect("a trace");
        let header = reader.header().clone();
        let next = || reader.next_frame().expect("it can be read");
        (header, std::iter::from_fn(next).collect::<Vec<_>>())
    };
    let (header, all) = frames(&path);
    let mut keeper = Keeper::new(&header, usize::MAX).expect("a header");
    let empty = keeper.save(&dir.path().join("empty.fst")).expect_err("nothing is kept");
    assert!(empty.to_string().contains("before the next snapshot"), "{empty}");
    all.iter().for_each(|frame| keeper.keep(frame).expect("it was in a trace"));
    let saved = dir.path().join("saved.fst");
    let report = keeper.save(&saved).expect("written");
    assert_eq!(report.bytes, std::fs::metadata(&saved).expect("written").len());
    assert!(keeper.save(&saved).is_err(), "nothing is overwritten");
    let (kept_header, kept) = frames(&saved);
    let lasting = |f: &&Frame| matches!(f, Frame::Events(_) | Frame::Snapshot(_));
    let [all, kept] = [&all, &kept].map(|f| f.iter().filter(lasting).collect::<Vec<_>>());
    assert_eq!((kept_header, kept), (header, all));
}

#[test]
fn the_oldest_that_is_kept_goes_first_and_a_snapshot_stays() {
    let (path, dir) = trace();
    let file = std::fs::File::open(path).expect("it exists");
    let mut reader = TraceReader::new(file).expect("a trace");
    let mut keeper = Keeper::new(&reader.header().clone(), 4000).expect("a header");
    let mut first = None;
    for round in 0.. {
        let Some(frame) = reader.next_frame().expect("it can be read") else { break };
        keeper.keep(&frame).expect("it was in a trace");
        if let (Frame::Snapshot(snapshot), None) = (&frame, &first) {
            first = Some(snapshot.clone());
        }
        // Another snapshot after every tenth second's worth of events.
        if let (Frame::Events(batch), Some(snapshot)) = (&frame, &first) {
            let mut later = snapshot.clone();
            later.begin_ns = batch.last_time_ns().expect("not empty");
            later.end_ns = later.begin_ns + 1000;
            later.chunks.iter_mut().for_each(|c| {
                (c.begin_ns, c.end_ns) = (later.begin_ns, later.end_ns);
            });
            keeper.keep(&Frame::Snapshot(later)).expect("it is sound");
        }
        let saved = dir.path().join(format!("{round}.fst"));
        keeper.save(&saved).expect("there is a snapshot at any time");
        let bytes = std::fs::metadata(&saved).expect("written").len();
        assert!(bytes < 4000 + 3000, "header, end and {bytes} bytes in all");
        if round % 10 == 9 {
            let run = run(&[saved.to_str().expect("plain"), "--start", "as-found", "--json"]);
            assert!(run.status.success(), "{}", text(&run.stderr));
        }
    }
}

#[test]
fn the_program_explains_itself() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && text(&output.stdout).contains("connect"), "{shell}");
    }
    let man = run(&["man"]);
    assert!(text(&man.stdout).starts_with(".ie"), "{}", text(&man.stdout));
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("config.toml");
    std::fs::write(&config, run(&["config", "--default"]).stdout).expect("written");
    let path = config.to_str().expect("plain");
    assert!(run(&["config", path]).status.success());
    std::fs::write(&config, "[keys]\nfly = [\"f\"]\n").expect("written");
    let output = run(&["config", path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("`fly` is no command"), "{}", text(&output.stderr));
}

#[test]
fn errors_say_what_was_wanted_and_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let bad = dir.path().join("bad.fst");
    std::fs::write(&bad, "not a trace at all, but long enough").expect("written");
    let cases: [(&[&str], i32, &str); 4] = [
        (&["/nonexistent.fst"], 1, "cannot open /nonexistent.fst"),
        (&[bad.to_str().expect("plain")], 1, "not a fragscope trace"),
        (&["--connect", "tcp:host:1"], 2, "expected unix:PATH"),
        (&["--speed", "fast"], 2, "`fast` is no number"),
    ];
    for (args, status, message) in cases {
        let output = run(args);
        assert_eq!(output.status.code(), Some(status), "{args:?}");
        let error = text(&output.stderr);
        assert!(error.contains(message), "{args:?}: {error}");
    }
}
