//! `PATCHES.md` names what exists: files, tests and switches, for every patch.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fragscope_replay::mm::settings::Settings;

/// Patches without a line of their own: they change no behaviour.
const WITHOUT_BEHAVIOUR: [u32; 2] = [32, 37];

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One line of the table.
struct Row {
    patch: u32,
    files: Vec<String>,
    tests: Vec<String>,
    switches: Vec<String>,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(package().join("../PATCHES.md")).unwrap();
    let cells = text.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let row = |cells: Vec<&str>| {
        let &["", patch, _, files, tests, switches, _, ""] = &cells[..] else { return None };
        let (files, tests) = (quoted(files), quoted(tests));
        Some(Row { patch: patch.parse().ok()?, files, tests, switches: quoted(switches) })
    };
    cells.filter_map(row).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let inner = dirs.iter().flat_map(|dir| sources(dir));
    let rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    inner.chain(files.into_iter().filter(rust)).collect()
}

/// Name and text of every function that has the attribute of a test.
fn tests() -> BTreeMap<String, String> {
    let mut tests = BTreeMap::new();
    for path in ["src", "tests"].iter().flat_map(|dir| sources(&package().join(dir))) {
        let text = fs::read_to_string(path).unwrap();
        for part in text.split("#[test]").skip(1) {
            let Some((_, from_name)) = part.split_once("fn ") else { continue };
            let name = from_name.split('(').next().unwrap_or_default();
            tests.insert(name.to_owned(), from_name[name.len()..].to_owned());
        }
    }
    tests
}

fn is_test_of(name: &str, patch: u32) -> bool {
    // One test may be of several patches: p29_p30_..
    name.split('_').take_while(|part| part.starts_with('p')).any(|p| p == format!("p{patch:02}"))
}

#[test]
fn every_patch_has_a_line() {
    let patches: Vec<u32> = rows().iter().map(|row| row.patch).collect();
    let expected: Vec<u32> = (1..=40).filter(|p| !WITHOUT_BEHAVIOUR.contains(p)).collect();
    assert_eq!(patches, expected);
}

#[test]
fn every_file_exists() {
    for row in rows() {
        assert!(!row.files.is_empty(), "patch {} names no file", row.patch);
        for file in &row.files {
            let path = package().join("src/mm").join(file);
            assert!(path.exists(), "patch {}: no file {file}", row.patch);
        }
        for file in row.tests.iter().filter(|name| name.ends_with(".rs")) {
            let places = [package().join("src/mm/spb/tests").join(file), package().join(file)];
            assert!(places.iter().any(|p| p.exists()), "patch {}: no file {file}", row.patch);
        }
    }
}

#[test]
fn every_patch_has_a_test_of_its_name_and_every_test_named_exists() {
    let tests = tests();
    for row in rows() {
        let known = |name: &str| match name.strip_suffix('*') {
            Some(prefix) => tests.keys().any(|test| test.starts_with(prefix)),
            None => tests.contains_key(name),
        };
        for name in row.tests.iter().filter(|name| !name.ends_with(".rs")) {
            assert!(known(name), "patch {}: no test {name}", row.patch);
        }
        let named = tests.keys().any(|test| is_test_of(test, row.patch));
        assert!(named, "no test begins with p{:02}_", row.patch);
    }
}

/// A patch that is a switch is in the settings, and a test of its name uses the switch.
#[test]
fn every_switch_is_used_by_a_test_of_its_name() {
    let tests = tests();
    let mut switches = Vec::new();
    for row in rows() {
        let switch = format!("p{:02}", row.patch);
        if !row.switches.contains(&switch) {
            continue;
        }
        let uses = |text: &String| text.split(|c: char| !c.is_alphanumeric()).any(|w| w == switch);
        let mut of_patch = tests.iter().filter(|(name, _)| is_test_of(name, row.patch));
        assert!(of_patch.any(|(_, text)| uses(text)), "no test switches {switch} off");
        switches.push(switch);
    }
    let is_patch = |name: &&&str| name.len() == 3 && name.starts_with('p') && **name != "pcp";
    let settings: Vec<_> = Settings::NAMES.iter().filter(is_patch).copied().collect();
    assert_eq!(switches, settings);
}
