//! The command `fragscope-replay locks`.
#![cfg(feature = "locks")]

use assert_cmd::Command;

fn locks(args: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = Command::cargo_bin("fragscope-replay").expect("the program is built");
    command.arg("locks").args(args).assert()
}

#[test]
fn the_deadlock_is_printed_for_people_and_for_programs() {
    let text = locks(&["--protocol", "blocking"]).success();
    let text = String::from_utf8_lossy(&text.get_output().stdout).into_owned();
    assert!(text.contains("CPU1 task waits for pcp0->lock, held by CPU0 task"), "{text}");

    let json = locks(&["--protocol", "blocking", "--json"]).success();
    let json: serde_json::Value =
        serde_json::from_slice(&json.get_output().stdout).expect("one JSON object");
    let row = &json["protocols"][0];
    assert_eq!(row["protocol"], "blocking");
    assert_eq!((&row["deadlock_found"], &row["corruption_found"]), (&true.into(), &false.into()));
    assert!(row["states_visited"].as_u64() > Some(1000), "{row}");
    assert_eq!(row["trace"]["steps"][0]["what"], "spin_lock(pcp0->lock)");
}

#[test]
fn an_unknown_protocol_is_wrong_usage_and_lists_the_known_ones() {
    let refused = locks(&["--protocol", "hope"]).code(2);
    let text = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(text.contains("local-trylock-remote-llist"), "{text}");
}
