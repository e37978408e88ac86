//! One guest under software emulation: started, watched, and never left behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cpio::unpack;
use crate::programs;

/// Guests are slow on a busy machine; what takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(1500);
/// Room for results.
const SHARED_BYTES: u64 = 128 << 20;

/// A kernel that `fetch` has put there.
pub(crate) struct Kernel {
    series: &'static str,
    image: PathBuf,
}

impl Kernel {
    /// The kernel of a series.
    pub(crate) fn of(series: &'static str) -> Kernel {
        let target = Path::new(programs::AGENT).ancestors().nth(2).expect("a target folder");
        let image = target.join("kernels").join(series).join("vmlinuz");
        assert!(
            image.exists(),
            "no kernel {series}: expected {}, which agent/tests/kernels/fetch gets from Debian",
            image.display()
        );
        Kernel { series, image }
    }
}

/// A running guest. Dropping it ends it.
pub(crate) struct Guest {
    qemu: Child,
    folder: tempfile::TempDir,
    begun: Instant,
    name: String,
}

impl Guest {
    /// Boots `kernel` into a scenario, on a machine with these further arguments of QEMU.
    pub(crate) fn boot(kernel: &Kernel, scenario: &str, machine: &[&str]) -> Guest {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::write(at("initramfs"), programs::initramfs()).unwrap();
        File::create(at("shared")).unwrap().set_len(SHARED_BYTES).unwrap();
        let agent = programs::AGENT;
        // A busy host is late with the interrupts that the kernel tests its timer by.
        let line = format!(
            "console=ttyS0 panic=-1 no_timer_check fragscope.scenario={scenario} \
             fragscope.agent={agent}"
        );
        let memory = format!("memory-backend-file,id=shared,share=on,size={SHARED_BYTES}");
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2"])
            .arg("-kernel")
            .arg(&kernel.image)
            .args(["-initrd", &at("initramfs"), "-append", &line])
            .args(["-serial", &format!("file:{}", at("console"))])
            .args(["-object", &format!("{memory},mem-path={}", at("shared"))])
            .args(["-device", "ivshmem-plain,memdev=shared"])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", at("qmp"))])
            .args(machine)
            .stdin(Stdio::null());
        let qemu = qemu.spawn().unwrap_or_else(|error| {
            panic!("cannot run qemu-system-x86_64 (Debian: qemu-system-x86): {error}")
        });
        let name = format!("Linux {} {scenario}", kernel.series);
        Guest { qemu, folder, begun: Instant::now(), name }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("console")).unwrap_or_default()).into_owned()
    }

    /// Waits until the guest prints `line`.
    pub(crate) fn await_line(&mut self, line: &str) {
        while !self.console().lines().any(|l| l.trim_end() == line) {
            self.go_on(&format!("waiting for {line:?}"));
        }
    }

    /// Lets time pass; fails if the guest has ended or has had enough of it.
    fn go_on(&mut self, what: &str) {
        let ended = self.qemu.try_wait().unwrap();
        if ended.is_some() || self.begun.elapsed() > LIMIT {
            let console = self.console();
            let last: Vec<&str> = console.lines().rev().take(60).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            let (name, time) = (&self.name, self.begun.elapsed());
            panic!("{name}: {what}, {ended:?} after {time:?}; its console:\n{}", last.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }

    /// Gives commands to the machine.
    pub(crate) fn commands(&mut self, commands: &[&str]) {
        let mut stream = UnixStream::connect(self.path("qmp")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let greeting = lines.next().unwrap().unwrap();
        assert!(greeting.contains("QMP"), "{greeting}");
        for command in [r#"{"execute":"qmp_capabilities"}"#].iter().chain(commands) {
            writeln!(stream, "{command}").unwrap();
            let answer = lines.by_ref().map(Result::unwrap).find(|l| !l.contains("\"event\""));
            let answer = answer.unwrap();
            assert!(answer.contains("\"return\""), "{command}: {answer}");
        }
    }

    /// Waits for the end and gives what the guest handed over.
    pub(crate) fn results(mut self) -> Results {
        while self.qemu.try_wait().unwrap().is_none() {
            self.go_on("waiting for its end");
        }
        let shared = fs::read(self.path("shared")).unwrap();
        let (length, rest) = shared.split_first_chunk::<8>().unwrap();
        let length = u64::from_le_bytes(*length) as usize;
        let files = rest.get(..length).and_then(unpack);
        let console = self.console();
        let files = files.unwrap_or_else(|| panic!("{}: no results:\n{console}", self.name));
        println!("{}: {:?}", self.name, self.begun.elapsed());
        if let Some(folder) = std::env::var_os("FRAGSCOPE_KEEP") {
            keep(&PathBuf::from(folder).join(self.name.replace(' ', "-")), &files, &console);
        }
        let results = Results { name: self.name.clone(), files };
        assert_eq!(results.text("outcome"), "done", "{}:\n{console}", self.name);
        results
    }
}

/// Leaves all results in a folder, to be looked at.
fn keep(folder: &Path, files: &BTreeMap<String, Vec<u8>>, console: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("console"), console).unwrap();
    for (name, data) in files {
        fs::write(folder.join(name), data).unwrap();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Either has failed only if it has ended.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// What a guest handed over.
pub(crate) struct Results {
    /// Kernel and scenario.
    pub(crate) name: String,
    files: BTreeMap<String, Vec<u8>>,
}

impl Results {
    /// The bytes of a file.
    pub(crate) fn bytes(&self, file: &str) -> &[u8] {
        let found = self.files.get(file);
        found.unwrap_or_else(|| panic!("{}: no {file} among the results", self.name))
    }

    /// A file's text.
    pub(crate) fn text(&self, file: &str) -> String {
        String::from_utf8_lossy(self.bytes(file)).into_owned()
    }

    /// Fails, with everything that it printed, unless the command has succeeded.
    pub(crate) fn assert_succeeded(&self, command: &str) {
        let [status, out, err] =
            ["status", "out", "err"].map(|end| self.text(&format!("{command}.{end}")));
        assert!(status.ends_with(" 0"), "{}: {command}: {status}\n{out}\n{err}", self.name);
    }
}
