//! A program in a pseudo-terminal, and what a user would see of it.

#![expect(unsafe_code, reason = "a child's controlling terminal is set between fork and exec")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running program and its terminal.
pub(crate) struct Pty {
    pub(crate) child: Child,
    master: File,
    /// Kept open so that the terminal's modes can be read after the program has gone.
    slave: OwnedFd,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
    /// When it last wrote.
    written_at: Instant,
}

impl Pty {
    /// Starts a program in a terminal of that size.
    pub(crate) fn start(mut command: Command, columns: u16, rows: u16) -> Pty {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a pseudo-terminal");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let name = name.into_string().expect("plain text");
        // It is to be the child's terminal, not ours.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let open = || rustix::fs::open(&name, flags, Mode::empty()).expect("it is ours");
        let slave = open();
        tcsetwinsize(&master, size(columns, rows)).expect("a size");
        command.stdin(Stdio::from(open())).stdout(Stdio::from(open())).stderr(Stdio::from(open()));
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        // SAFETY: between fork and exec only async-signal-safe system calls are made.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().expect("the program starts");
        let seen = Arc::new(Mutex::new(Seen {
            parser: vt100::Parser::new(rows, columns, 0),
            bytes: Vec::new(),
            written_at: Instant::now(),
        }));
        let master = File::from(master);
        let (mut reader, into) = (master.try_clone().expect("a handle"), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let mut seen = into.lock().expect("not poisoned");
                seen.parser.process(&buffer[..count]);
                seen.bytes.extend_from_slice(&buffer[..count]);
                seen.written_at = Instant::now();
            }
        });
        Pty { child, master, slave, seen }
    }

    /// Types.
    pub(crate) fn send(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal takes it");
    }

    /// Changes the size, as a window manager would.
    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        self.seen.lock().expect("not poisoned").parser.screen_mut().set_size(rows, columns);
        tcsetwinsize(&self.master, size(columns, rows)).expect("a size");
    }

    /// The screen's text.
    pub(crate) fn screen(&self) -> String {
        self.seen.lock().expect("not poisoned").parser.screen().contents()
    }

    /// Everything the program wrote.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("not poisoned").bytes).into_owned()
    }

    /// When the program last wrote.
    pub(crate) fn written_at(&self) -> Instant {
        self.seen.lock().expect("not poisoned").written_at
    }

    /// Waits until the screen is as wanted. Returns how long it took until the program last wrote.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Duration {
        self.wait_at_most(PATIENCE, what, wanted)
    }

    /// The same for what may take long.
    pub(crate) fn wait_at_most(
        &self,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Duration {
        let began = Instant::now();
        while !wanted(&self.screen()) {
            assert!(began.elapsed() < patience, "no {what} on the screen:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(1));
        }
        self.written_at().saturating_duration_since(began)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                // What it wrote last may still be on its way.
                std::thread::sleep(Duration::from_millis(50));
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether the terminal is as a shell wants it: cooked, main screen, cursor visible.
    pub(crate) fn assert_restored(&self) {
        let modes = tcgetattr(self.slave.as_fd()).expect("a terminal").local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "still raw");
        let seen = self.seen.lock().expect("not poisoned");
        let screen = seen.parser.screen();
        assert!(!screen.alternate_screen(), "still on the alternate screen");
        assert!(!screen.hide_cursor(), "the cursor is still hidden");
        let text = String::from_utf8_lossy(&seen.bytes);
        assert!(text.contains("\x1b[?1049h"), "it never took the terminal over");
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // A failed test leaves no program behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }
}
