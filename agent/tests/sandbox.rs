//! What a confined thread can still do, and what it can't. Rights belong to threads, so each test
//! confines one of its own.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;
use std::sync::Arc;

use fragscope_agent::privileges::{Confined, Needs, Sandbox, spawn};

/// Runs `work` inside a sandbox.
fn inside<T: Send + 'static>(
    needs: &Needs,
    work: impl FnOnce(Confined) -> T + Send + 'static,
) -> T {
    let (sandbox, confined) = Sandbox::prepare(needs).unwrap();
    let thread = spawn("confined", None, Some(&sandbox), move || work(confined)).unwrap();
    thread.join().unwrap().expect("it was confined")
}

/// Neither what does not exist nor what went well is a refusal.
fn is_refused<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)))
}

#[test]
fn the_forbidden_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (file, made, socket) = (at("file"), at("made"), at("socket"));
    fs::write(&file, "secret").unwrap();
    let _listener = UnixListener::bind(&socket).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    inside(&Needs::default(), move |confined| {
        assert_eq!(confined.capabilities, [""; 0]);
        if confined.files {
            assert!(is_refused(File::open(&file)), "a file can be read");
            assert!(is_refused(fs::read_dir("/etc")), "a folder can be read");
        } else {
            eprintln!("skipped in part: this kernel has no Landlock");
        }
        assert!(is_refused(OpenOptions::new().append(true).open(&file)), "a file can be written");
        assert!(is_refused(File::create(&made)), "a file can be made");
        assert!(is_refused(fs::remove_file(&file)), "a file can be removed");
        assert!(is_refused(fs::rename(&file, &made)), "a file can be renamed");
        assert!(is_refused(TcpStream::connect(address)), "a connection can be made");
        assert!(is_refused(TcpListener::bind("127.0.0.1:0")), "a port can be listened at");
        assert!(is_refused(UnixStream::connect(&socket)), "a socket can be connected to");
        assert!(is_refused(UnixDatagram::unbound()), "a socket can be made");
        assert!(is_refused(Command::new("/bin/true").spawn()), "a program can be run");
        let own = rustix::process::getpid();
        let signalled = rustix::process::kill_process(own, rustix::process::Signal::CONT);
        assert!(is_refused(signalled.map_err(io::Error::from)), "a process can be signalled");
    });
}

#[test]
fn what_goes_on_reading_needs_is_admitted() {
    inside(&Needs::default(), |confined| {
        assert!(fs::read_to_string("/proc/zoneinfo").unwrap().contains("Node 0"));
        assert!(!fs::read_to_string("/proc/self/statm").unwrap().is_empty());
        assert!(fs::read_dir("/sys/devices/system/cpu").unwrap().count() > 0);
        fragscope_agent::machine::read_machine().unwrap();
        // Memory, and threads, which are confined, too.
        assert_eq!(vec![1u8; 64 << 20].iter().map(|b| u64::from(*b)).sum::<u64>(), 64 << 20);
        let thread = std::thread::Builder::new().spawn(|| is_refused(File::open("/etc/passwd")));
        assert!(thread.unwrap().join().unwrap() || !confined.files);
    });
}

/// What only the right to open files or to see addresses gives stays readable.
#[test]
fn what_was_opened_with_rights_stays_open() {
    let before = fragscope_agent::machine::read_machine().unwrap().ram;
    let after =
        inside(&Needs::default(), |_| fragscope_agent::machine::read_machine().unwrap().ram);
    assert_eq!(before, after);
}

#[test]
fn a_folder_for_traces_can_be_written_in_and_nothing_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let (inner, outer) = (dir.path().join("traces"), dir.path().join("outer"));
    fs::create_dir(&inner).unwrap();
    let needs = Needs { write_in: vec![inner.clone()], ..Needs::default() };
    inside(&needs, move |confined| {
        fs::write(inner.join("a"), "trace").unwrap();
        fs::rename(inner.join("a"), inner.join("b")).unwrap();
        assert_eq!(fs::read(inner.join("b")).unwrap(), b"trace");
        fs::remove_file(inner.join("b")).unwrap();
        assert!(is_refused(File::create(&outer)) || !confined.files);
        assert!(is_refused(fs::create_dir(inner.join("folder"))));
    });
}

#[test]
fn no_needs_are_met_that_can_not_be() {
    let needs = Needs { read: vec!["/nonexistent".into()], ..Needs::default() };
    let error = Sandbox::prepare(&needs).unwrap_err().to_string();
    assert!(error.contains("/nonexistent"), "{error}");
}

/// The thread that asked for another stays as it is.
#[test]
fn only_the_thread_itself_is_confined() {
    let (sandbox, _) = Sandbox::prepare(&Needs::default()).unwrap();
    let sandbox: Arc<Sandbox> = sandbox;
    let thread = spawn("confined", None, Some(&sandbox), || ()).unwrap();
    assert!(thread.join().unwrap().is_some());
    assert!(Command::new("/bin/true").status().unwrap().success());
}
