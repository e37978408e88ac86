//! The table of `docs/KERNELS.md` against the kernels themselves.

use fragscope_agent::bpf::rights::missing_capabilities;
use fragscope_agent::machine::read_machine;

use crate::facts::{self, Facts};

/// Fails unless the column of `series` says of every row what that kernel answered.
pub(crate) fn check(series: &str, facts: &Facts) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/KERNELS.md");
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows: Vec<Vec<String>> = text.lines().filter(|l| l.starts_with('|')).map(cells).collect();
    let column = rows.iter().find_map(|row| row.iter().position(|cell| cell == series));
    let column = column.unwrap_or_else(|| panic!("{path} has no column {series}"));
    let mut wrong = Vec::new();
    for (name, answer) in facts {
        let row = rows.iter().find(|row| row[0] == *name);
        if row.and_then(|row| row.get(column)) != Some(answer) {
            wrong.push(format!("| {name} | {answer} |"));
        }
    }
    assert!(wrong.is_empty(), "{path}, column {series}, should say:\n{}", wrong.join("\n"));
}

/// The column of the kernel that runs here, if there is one.
#[test]
fn this_kernel_is_as_documented() {
    let release = read_machine().unwrap().kernel_release;
    let series =
        ["6.1", "6.12", "6.18"].into_iter().find(|s| release.starts_with(&format!("{s}.")));
    match series {
        Some(series) if missing_capabilities().is_empty() => {
            check(series, &facts::of_this_kernel());
        }
        _ => eprintln!("skipped: Linux {release} has no column, or only root may look"),
    }
}
