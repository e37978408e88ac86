//! What the fuzzers share: traces whose checksums hold, so that damage reaches what is behind them.

use std::fs;
use std::path::Path;

use fragscope_trace::frame::{FORMAT_VERSION, HEAD_BYTES, MAGIC};
use fragscope_trace::reader::Limits;

/// Memory for one snapshot: what hostile input may make a reader take.
pub const LIMITS: Limits = Limits { snapshot_bytes: 4 << 20 };

/// Makes `bytes` frames as far as lengths lead to one: magic, version and checksums are put right.
pub fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while at + HEAD_BYTES <= bytes.len() {
        let stored = word(&bytes, at + 8) as usize;
        let end = at.saturating_add(HEAD_BYTES).saturating_add(stored).min(bytes.len());
        bytes[at..at + 4].copy_from_slice(&MAGIC);
        bytes[at + 4..at + 6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let payload = crc32fast::hash(&bytes[at + HEAD_BYTES..end]);
        bytes[at + 16..at + 20].copy_from_slice(&payload.to_le_bytes());
        let head = crc32fast::hash(&bytes[at..at + 20]);
        bytes[at + 20..at + 24].copy_from_slice(&head.to_le_bytes());
        at = end;
    }
    bytes
}

/// A valid trace without compression, so that a mutation changes what it seems to change.
pub fn without_compression(mut bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while bytes.len() >= HEAD_BYTES {
        let (stored, length) = (word(bytes, 8) as usize, word(bytes, 12));
        let payload = &bytes[HEAD_BYTES..HEAD_BYTES + stored];
        plain.extend(&bytes[..7]);
        plain.push(0);
        plain.extend([length.to_le_bytes(), length.to_le_bytes(), [0; 4], [0; 4]].concat());
        match bytes[7] {
            0 => plain.extend(payload),
            _ => plain.extend(zstd::bulk::decompress(payload, length as usize).expect("valid")),
        }
        bytes = &bytes[HEAD_BYTES + stored..];
    }
    with_checksums(&plain)
}

/// Puts the first inputs of all fuzzers under `target/fuzz/seeds`, from the project's own test data
/// and from this host. Each fuzzer calls it before it reads them.
pub fn seed() {
    put_seeds().expect("seeds can be written below target/fuzz");
}

fn put_seeds() -> std::io::Result<()> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let dir = project.join("target/fuzz/seeds").join(target);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(name), bytes)
    };
    for file in ["trace/tests/data/golden.fst", "replayer/tests/data/tiny.fst"] {
        let trace = without_compression(&fs::read(project.join(file))?);
        let name = file.replace('/', "-");
        put("frames", &name, &trace)?;
        put("replay", &name, &trace)?;
    }
    for (at, file) in PROC_FILES.iter().enumerate() {
        // Pagetypeinfo is root's; whatever is missing is left to mutations.
        let text = fs::read(file).unwrap_or_default();
        put("proc", &at.to_string(), &[&[at as u8], text.as_slice()].concat())?;
    }
    for (name, line) in [("perf", PERF_LINES), ("ftrace", FTRACE_LINES)] {
        put("text", name, line.as_bytes())?;
    }
    put("debugfs", "empty", b"")?;
    put("btf", "header", &BTF_HEADER)
}

/// Files that the fuzzer of `/proc` begins with; the first byte of its input chooses the parser.
pub const PROC_FILES: [&str; 8] = [
    "/proc/buddyinfo",
    "/proc/pagetypeinfo",
    "/proc/zoneinfo",
    "/proc/vmstat",
    "/proc/meminfo",
    "/proc/iomem",
    "/sys/devices/system/cpu/possible",
    "/sys/kernel/tracing/events/kmem/mm_page_alloc/format",
];

const PERF_LINES: &str = "\
cc1 123 [001] 12.345678901: kmem:mm_page_alloc: page=0x1 pfn=0x1234 order=0 migratetype=1 \
gfp_flags=GFP_HIGHUSER_MOVABLE|__GFP_ZERO
cc1 123 [000] 12.345679901: kmem:mm_page_free: page=0x1 pfn=0x1234 order=0
";

const FTRACE_LINES: &str = "\
# tracer: nop
CPU:1 [LOST 12 EVENTS]
 cc1-123 [001] d..2. 12.345678: mm_page_alloc: page=0x1 pfn=0x1234 order=9 migratetype=1 \
gfp_flags=GFP_TRANSHUGE
 cc1-123 [001] d..2. 12.345679: mm_page_free: page=0x1 pfn=0x1234 order=9
";

/// Magic 0xeb9f, version 1, header of 24 bytes, no types and no strings.
const BTF_HEADER: [u8; 24] =
    [0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
