//! The programs that run in guests, built without shared libraries from the same dependencies as
//! everything else.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::cpio::Archive;

/// Where the live tests look for the agent.
pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_fragscope-agent");

/// The first file system of all guests, built once.
pub(crate) fn initramfs() -> &'static [u8] {
    static ARCHIVE: OnceLock<Vec<u8>> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let mut archive = Archive::default();
        for (path, target) in [
            ("/agent", ["--bin", "fragscope-agent"]),
            ("/live", ["--test", "live"]),
            ("/init", ["--example", "guest"]),
        ] {
            archive.file(path, 0o755, &build(&target));
        }
        for folder in ["/proc", "/sys", "/dev", "/tmp"] {
            archive.folder(folder);
        }
        // The first process has nothing else until it mounts more.
        archive.device("/dev/console", 5, 1);
        archive.device("/dev/null", 1, 3);
        archive.finish()
    })
}

/// Builds one target of this package and reads it.
fn build(target: &[&str]) -> Vec<u8> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["rustc", "--quiet", "--message-format=json-render-diagnostics"]);
    cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    cargo.args(target).args(["--", "-C", "target-feature=+crt-static", "-C", "strip=symbols"]);
    let output = cargo.stderr(Stdio::inherit()).output().expect("cargo can be run");
    assert!(output.status.success(), "cannot build {target:?} without shared libraries");
    let text = String::from_utf8(output.stdout).expect("cargo prints text");
    let executable = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == target[1];
        message["executable"].as_str().filter(|_| is_it).map(str::to_owned)
    };
    let path = text.lines().find_map(executable).expect("cargo names what it built");
    fs::read(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}
