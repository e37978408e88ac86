//! The committed BPF objects.
//!
//! `ebpf/build-object.sh` builds them; a test compares the hash of their sources.

/// Bytes at an address that the ELF reader may cast to its structures.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static PROBE: &Aligned<[u8]> = &Aligned(*include_bytes!("../../ebpf/object/fragscope-probe.bpf.o"));
static TRACER: &Aligned<[u8]> =
    &Aligned(*include_bytes!("../../ebpf/object/fragscope-tracer.bpf.o"));

/// Programs that run on demand: calibration, identity, copying of struct pages. Maps and programs
/// are described in [`fragscope_ebpf::probe`].
#[must_use]
pub fn probe() -> &'static [u8] {
    &PROBE.0
}

/// Programs that run while tracing.
#[must_use]
pub fn tracer() -> &'static [u8] {
    &TRACER.0
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// The objects are built by hand; this is what keeps them from going stale.
    #[test]
    fn objects_match_their_sources() {
        let ebpf = concat!(env!("CARGO_MANIFEST_DIR"), "/../ebpf");
        let output = Command::new("bash")
            .arg(format!("{ebpf}/build-object.sh"))
            .arg("--hash")
            .output()
            .expect("bash runs");
        let now = String::from_utf8(output.stdout).expect("a hash is text");
        let built = include_str!("../../ebpf/object/source.sha256");
        assert_eq!(now.len(), 65, "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(now, built, "the BPF sources changed: run ebpf/build-object.sh and commit");
    }

    /// Without the declaration a loader has to guess, and aya guesses "GPL".
    #[test]
    fn objects_declare_their_licence() {
        for object in [super::probe(), super::tracer()] {
            let object = aya_obj::Object::parse(object).unwrap();
            assert_eq!(object.license.as_bytes_with_nul(), fragscope_ebpf::LICENCE);
        }
    }

    #[test]
    fn objects_are_aligned_elf() {
        for object in [super::probe(), super::tracer()] {
            assert_eq!(&object[..4], b"\x7fELF");
            assert_eq!(object.as_ptr() as usize % 8, 0);
        }
    }
}
