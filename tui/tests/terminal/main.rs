//! The program in a real terminal: it starts, follows a resize, answers keys at once, and gives
//! the terminal back on every way out.

mod pty;
mod recording;

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use pty::Pty;
use rustix::process::Signal;
use tempfile::TempDir;

/// The dashboard over a small recording, once its first picture is complete.
fn dashboard(columns: u16, rows: u16) -> (Pty, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let trace = dir.path().join("small.fst");
    recording::write(&trace);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fragscope"));
    command.arg(&trace).args(["--start", "as-found"]);
    let pty = Pty::start(command, columns, rows);
    pty.wait_for("overview", |s| s.contains("testhost") && s.contains("RECORDING"));
    (pty, dir)
}

#[test]
fn it_starts_shows_the_recording_and_quits() {
    let (mut pty, _dir) = dashboard(80, 24);
    let screen = pty.screen();
    assert!(screen.contains("4 regions"), "{screen}");
    assert!(screen.contains("spb"), "{screen}");
    pty.send("q");
    assert_eq!(pty.wait().code(), Some(0));
    pty.assert_restored();
}

#[test]
fn a_lost_connection_is_said_and_mended() {
    let dir = tempfile::tempdir().expect("a directory");
    let (trace, socket) = (dir.path().join("small.fst"), dir.path().join("agent.sock"));
    // Without an end, or the program would not wait for the connection to break.
    drop(recording::write_open(&trace));
    let bytes = std::fs::read(&trace).expect("just written");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fragscope"));
    command.arg("--connect").arg(format!("unix:{}", socket.display()));
    let mut pty = Pty::start(command, 120, 24);

    let (mut client, _) = listener.accept().expect("it connects");
    client.write_all(&bytes).expect("it reads");
    pty.wait_for("live data", |s| s.contains("LIVE") && s.contains("spb"));
    drop(client);
    pty.wait_for("notice", |s| s.contains("connection lost") && s.contains("last data"));
    assert!(pty.screen().contains("kernel"), "the last data stay");

    let (mut client, _) = listener.accept().expect("it connects again");
    client.write_all(&bytes).expect("it reads");
    pty.wait_for("live data again", |s| s.contains("LIVE") && !s.contains("connection lost"));
    pty.send("q");
    assert_eq!(pty.wait().code(), Some(0));
    pty.assert_restored();
}

#[test]
fn a_pipe_is_read_while_keys_come_from_the_terminal() {
    let dir = tempfile::tempdir().expect("a directory");
    let trace = dir.path().join("small.fst");
    recording::write(&trace);
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_fragscope");
    command.args(["-c", "cat \"$0\" | \"$1\" -"]).arg(&trace).arg(program);
    let mut pty = Pty::start(command, 80, 24);
    pty.wait_for("overview", |s| s.contains("testhost") && s.contains("ENDED"));
    pty.send("5");
    pty.wait_for("health", |s| s.contains("health"));
    pty.send("q");
    assert_eq!(pty.wait().code(), Some(0));
    pty.assert_restored();
}

#[test]
fn it_follows_the_size_of_the_terminal() {
    let (mut pty, _dir) = dashboard(80, 24);
    pty.resize(120, 40);
    pty.wait_for("pane of a wide screen", |s| s.contains("who tainted"));
    pty.resize(40, 10);
    pty.wait_for("small screen", |s| s.contains("+1G") && !s.contains("who tainted"));
    pty.send("q");
    assert_eq!(pty.wait().code(), Some(0));
    pty.assert_restored();
}

#[test]
fn keys_are_answered_at_once() {
    let (mut pty, _dir) = dashboard(120, 40);
    let mut times = Vec::new();
    for (key, title) in [("2", "by address"), ("4", "allocator counters"), ("5", "health")] {
        for _ in 0..3 {
            pty.send(key);
            times.push(pty.wait_for(title, |s| s.contains(title)));
            pty.send("1");
            pty.wait_for("overview", |s| s.contains("now  1 GiB moved"));
        }
    }
    times.sort_unstable();
    let median = times[times.len() / 2];
    assert!(median < Duration::from_millis(50), "{times:?}");
    pty.send("q");
    pty.wait();
}

#[test]
fn signals_end_it_and_give_the_terminal_back() {
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let (mut pty, _dir) = dashboard(80, 24);
        pty.signal(signal);
        assert_eq!(pty.wait().code(), Some(status));
        pty.assert_restored();
    }
}

#[test]
fn an_error_is_said_after_the_terminal_is_given_back() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fragscope"));
    command.arg("/nonexistent.fst");
    let mut pty = Pty::start(command, 80, 24);
    assert_eq!(pty.wait().code(), Some(1));
    assert!(pty.screen().contains("cannot open /nonexistent.fst"), "{}", pty.screen());
}

#[test]
fn a_panic_gives_the_terminal_back_before_its_message() {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--ignored", "--exact", "panics_with_the_terminal_taken", "--nocapture"]);
    let mut pty = Pty::start(command, 80, 24);
    assert_ne!(pty.wait().code(), Some(0));
    pty.assert_restored();
    let written = pty.written();
    let left = written.find("\x1b[?1049l").expect("it left the alternate screen");
    let message = written.find("a deliberate panic").expect("the message is printed");
    assert!(left < message, "the message was printed to the alternate screen");
}

/// Not a test: what the one above runs in a terminal.
#[test]
#[ignore = "run by another test, in a terminal"]
fn panics_with_the_terminal_taken() {
    let _screen = fragscope::term::Screen::enter(true).expect("a terminal");
    std::thread::sleep(Duration::from_millis(100));
    panic!("a deliberate panic");
}

/// Not a test: a panic of another thread is not for the screen, but not forgotten either.
#[test]
#[ignore = "run by another test, in a terminal"]
fn another_thread_panics_with_the_terminal_taken() {
    let screen = fragscope::term::Screen::enter(true).expect("a terminal");
    let other = std::thread::spawn(|| panic!("a deliberate panic"));
    assert!(other.join().is_err());
    drop(screen);
}

#[test]
fn a_panic_of_another_thread_leaves_the_screen_alone() {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    let name = "another_thread_panics_with_the_terminal_taken";
    command.args(["--ignored", "--exact", name, "--nocapture"]);
    let mut pty = Pty::start(command, 80, 24);
    assert_eq!(pty.wait().code(), Some(0));
    pty.assert_restored();
    let written = pty.written();
    let left = written.find("\x1b[?1049l").expect("it left the alternate screen");
    let message = written.find("a deliberate panic").expect("the message is printed");
    assert!(left < message, "the message was printed over the screen");
}
