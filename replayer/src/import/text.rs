//! What `perf script` and ftrace print about the `kmem` events.
//!
//! Both print one event a line: process and pid, `[cpu]`, a time in seconds, the event's name and
//! its fields as `name=value`. `trace-cmd report` and `trace_pipe` print the same.

use std::io::{BufRead, Write};

use fragscope_trace::event::{
    EventBatch, LossCause, PageEvent, PageEventKind, SideEvent, SideKind, TimeNs,
};
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{CpuId, MAX_EVENT_ORDER, Migratetype, Pfn};
use fragscope_trace::rules::MAX_PFN;

use super::bare::{self, Known};
use super::{ImportError, Imported};
use crate::synth::gfp_text::GfpText;

/// Makes a trace from text.
///
/// All events are held in memory, because what a page was before the trace shows only when it is
/// freed.
///
/// # Errors
/// If the text has no event, or the output fails.
pub fn import<R: BufRead, W: Write>(
    text: R,
    known: &Known,
    out: W,
) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    let events = read(text, &mut imported)?;
    bare::write(&events, known, imported, out)
}

fn read<R: BufRead>(mut text: R, imported: &mut Imported) -> Result<EventBatch, ImportError> {
    let mut parsed = Vec::new();
    let (mut line, mut lines) = (Vec::new(), 0u64);
    let mut malformed = Malformed::default();
    loop {
        line.clear();
        let source = |source| ImportError::Text { line: lines, source };
        if text.read_until(b'\n', &mut line).map_err(source)? == 0 {
            break;
        }
        lines += 1;
        let line = String::from_utf8_lossy(&line);
        let now_ns = parsed.last().map_or(0, Parsed::time_ns);
        match parse(&line).or_else(|| lost(&line, now_ns)) {
            Some(event) => parsed.push(event),
            None if names_event(&line) => malformed.note(lines, &line),
            None => imported.other_lines += 1,
        }
    }
    malformed.tell(imported);
    if parsed.is_empty() {
        return Err(ImportError::NoEvents { lines });
    }
    // Rings of several CPUs may be printed one after the other.
    parsed.sort_by_key(Parsed::time_ns);
    let mut events = EventBatch::default();
    for event in parsed {
        match event {
            Parsed::Page(page) => events.pages.push(page),
            Parsed::Side(side) => events.push_side(side),
        }
    }
    Ok(events)
}

/// Lines that name an event of interest and cannot be read as one.
#[derive(Debug, Default)]
struct Malformed {
    lines: u64,
    first: Option<(u64, String)>,
}

impl Malformed {
    fn note(&mut self, number: u64, line: &str) {
        self.lines += 1;
        self.first.get_or_insert_with(|| (number, line.trim().chars().take(120).collect()));
    }

    fn tell(self, imported: &mut Imported) {
        imported.malformed_lines = self.lines;
        if let Some((number, line)) = self.first {
            imported.inferred.push(format!(
                "{} lines name an event and cannot be read; they are left out. The first is line \
                 {number}: {line}",
                self.lines
            ));
        }
    }
}

/// Whether a line claims to be an event that [`parse`] knows.
fn names_event(line: &str) -> bool {
    ["mm_page_alloc:", "mm_page_free:"].iter().any(|name| line.contains(name))
}

/// `CPU:1 [LOST 123 EVENTS]` (ftrace) or `PERF_RECORD_LOST lost 123` (perf): events that are
/// missing, since the last event before.
fn lost(line: &str, now_ns: TimeNs) -> Option<Parsed> {
    let (cpu, count) = match line.split_once("[LOST ") {
        Some((before, after)) => {
            let cpu = before.trim().strip_prefix("CPU:").and_then(|cpu| cpu.parse().ok());
            (cpu.map(CpuId), after.split_whitespace().next()?)
        }
        None => (None, line.split_once("PERF_RECORD_LOST lost ")?.1.trim()),
    };
    let kind = SideKind::Lost {
        cpu,
        cause: LossCause::RingFull,
        count: count.parse().ok()?,
        since_ns: now_ns,
    };
    Some(Parsed::Side(SideEvent { time_ns: now_ns, cpu, kind }))
}

/// One line that is an event.
#[derive(Debug, PartialEq)]
enum Parsed {
    Page(PageEvent),
    Side(SideEvent),
}

impl Parsed {
    fn time_ns(&self) -> TimeNs {
        match self {
            Parsed::Page(event) => event.time_ns,
            Parsed::Side(event) => event.time_ns,
        }
    }
}

/// Reads a line; `None` if it is no event of interest.
fn parse(line: &str) -> Option<Parsed> {
    let (before, name, fields) = split_event(line)?;
    let (cpu, time_ns) = cpu_and_time(before)?;
    let pfn = || pfn_field(fields);
    let order = || field(fields, "order")?.parse().ok().filter(|order| *order <= MAX_EVENT_ORDER);
    let typed = |kind| {
        let of_type = field(fields, "migratetype").and_then(migratetype)?;
        let page = PageEvent::new(kind, time_ns, cpu, pfn()?, order()?, of_type, Gfp::empty());
        Some(Parsed::Page(page))
    };
    match name {
        "mm_page_alloc" => {
            let gfp = gfp_field(fields)?;
            // A failed request prints page frame 0, which is never handed out.
            Some(Parsed::Page(match pfn().filter(|pfn| pfn.0 > 0) {
                Some(pfn) => PageEvent::alloc(time_ns, cpu, pfn, order()?, gfp),
                None => {
                    let kind = PageEventKind::AllocFailed;
                    PageEvent::new(kind, time_ns, cpu, Pfn(0), order()?, gfp.migratetype(), gfp)
                }
            }))
        }
        "mm_page_free" => Some(Parsed::Page(PageEvent::free(time_ns, cpu, pfn()?, order()?))),
        "mm_page_alloc_zone_locked" => typed(PageEventKind::ZoneLocked),
        "mm_page_pcpu_drain" => typed(PageEventKind::PcpuDrain),
        "mm_page_alloc_extfrag" => extfrag(fields, cpu, time_ns),
        _ => None,
    }
}

/// The parts of a line before the event's name, the name, and its fields.
fn split_event(line: &str) -> Option<(&str, &str, &str)> {
    let at = line.find("mm_page_")?;
    let rest = &line[at..];
    let (name, fields) = rest.split_once(':')?;
    let before = line[..at].trim_end_matches("kmem:");
    Some((before, name, fields))
}

/// `comm pid [001] d..1. 12.345678: ` (ftrace, with flags) or `comm pid [001] 12.345678901: `.
fn cpu_and_time(before: &str) -> Option<(CpuId, TimeNs)> {
    let open = before.rfind('[')?;
    let (cpu, rest) = before[open + 1..].split_once(']')?;
    let time = rest.split_whitespace().next_back()?.strip_suffix(':')?;
    let (seconds, fraction) = time.split_once('.')?;
    if fraction.len() > 9 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let scale = 10u64.pow(9 - fraction.len() as u32);
    let seconds: u64 = seconds.parse().ok()?;
    let time_ns =
        seconds.checked_mul(1_000_000_000)?.checked_add(fraction.parse::<u64>().ok()? * scale)?;
    Some((CpuId(cpu.trim().parse().ok()?), time_ns))
}

/// The value of `name=`.
fn field<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    let words = fields.split_whitespace();
    words.filter_map(|word| word.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
}

/// A page frame; `None` where there is none that could exist.
fn pfn_field(fields: &str) -> Option<Pfn> {
    let text = field(fields, "pfn")?;
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => text.parse().ok()?,
    };
    (number < MAX_PFN).then_some(Pfn(number))
}

/// Flags by name, as the kernel prints them; names that have no canonical bit are passed over.
fn gfp_field(fields: &str) -> Option<Gfp> {
    let text = field(fields, "gfp_flags")?;
    if let Some(hex) = text.strip_prefix("0x") {
        return Some(Gfp::from_bits_truncate(u32::from_str_radix(hex, 16).ok()?));
    }
    let known = text.split('|').filter_map(|name| GfpText::parse(name).ok());
    Some(known.fold(Gfp::empty(), |all, part| all | part.0))
}

/// The number that the kernel prints, of which only the first four are the same in all kernels.
fn migratetype(text: &str) -> Option<Migratetype> {
    let number: usize = text.parse().ok()?;
    Migratetype::from_index(number)
}

fn extfrag(fields: &str, cpu: CpuId, time_ns: TimeNs) -> Option<Parsed> {
    let order = |name| field(fields, name)?.parse::<u8>().ok();
    let of_type = |name| field(fields, name).and_then(migratetype);
    let kind = SideKind::ExtFrag {
        pfn: pfn_field(fields)?,
        alloc_order: order("alloc_order")?,
        fallback_order: order("fallback_order")?,
        alloc_type: of_type("alloc_migratetype")?,
        fallback_type: of_type("fallback_migratetype")?,
        change_ownership: field(fields, "change_ownership")? != "0",
    };
    Some(Parsed::Side(SideEvent { time_ns, cpu: Some(cpu), kind }))
}

#[cfg(test)]
mod tests {
    use fragscope_trace::frame::Frame;
    use fragscope_trace::page::Content;
    use fragscope_trace::reader::TraceReader;

    use super::*;

    const PERF: &str = " lto 4xfrjq84zvt 31289 [001]  6307.221126: kmem:mm_page_alloc: \
        page=0x3807b1 pfn=0x3807b1 order=9 migratetype=1 \
        gfp_flags=GFP_HIGHUSER_MOVABLE|__GFP_ZERO|__GFP_COMP";
    const FTRACE: &str = " rustc [x]-31363   [000] d..1.  6309.571876123: mm_page_free: page=0000abcd pfn=0x14afb4 order=0";

    fn page(line: &str) -> PageEvent {
        match parse(line) {
            Some(Parsed::Page(event)) => event,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn perf_and_ftrace_lines_are_events() {
        let gfp = Gfp::HIGHUSER_MOVABLE | Gfp::ZERO | Gfp::COMP;
        let alloc = PageEvent::alloc(6_307_221_126_000, CpuId(1), Pfn(0x38_07b1), 9, gfp);
        assert_eq!(page(PERF), alloc);
        assert_eq!(page(FTRACE), PageEvent::free(6_309_571_876_123, CpuId(0), Pfn(0x14_afb4), 0));
        let drain =
            "x 1 [002] 1.5: kmem:mm_page_pcpu_drain: page=0x1 pfn=0x10 order=2 migratetype=2";
        assert_eq!(page(drain).kind(), PageEventKind::PcpuDrain);
        assert_eq!(page(drain).migratetype(), Migratetype::Reclaimable);
    }

    #[test]
    fn a_failed_request_is_one() {
        let line = "x 1 [000] 1.5: kmem:mm_page_alloc: page=(nil) pfn=0x0 order=4 migratetype=0 \
                    gfp_flags=GFP_KERNEL|__GFP_NOWARN|__GFP_NEW_FLAG";
        let event = page(line);
        assert_eq!((event.kind(), event.order()), (PageEventKind::AllocFailed, 4));
        assert_eq!(event.gfp, Gfp::KERNEL | Gfp::NOWARN);
    }

    #[test]
    fn other_lines_are_passed_over() {
        let batched = "x 1 [000] 1.5: mm_page_free_batched: page=0x1 pfn=0x1 order=0";
        for line in ["", "# tracer: nop", batched, "x 1 [9 1.5: mm_page_free: pfn=0x1 order=0"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn what_was_freed_before_it_was_allocated_was_in_use() {
        let text = format!("{PERF}\n{FTRACE}\nnoise\n");
        let known = Known { memory_bytes: Some(24 << 30), ..Known::default() };
        let mut out = Vec::new();
        let imported = import(text.as_bytes(), &known, &mut out).unwrap();
        assert_eq!((imported.events, imported.other_lines), (2, 1));
        let mut reader = TraceReader::new(&out[..]).unwrap();
        let Some(Frame::Snapshot(snapshot)) = reader.next_frame().unwrap() else { panic!() };
        let unknown = snapshot.runs.iter().filter(|run| run.content == Content::Unknown);
        let unknown: Vec<_> = unknown.map(|run| (run.start, run.pages)).collect();
        assert_eq!(unknown, [(Pfn(0x14_afb4), 1)]);
        let span: u64 = snapshot.machine.zones.iter().map(|zone| zone.spanned_pages).sum();
        assert_eq!(snapshot.totals().iter().sum::<u64>(), span);
        assert!(imported.inferred.iter().any(|said| said.contains("geometry")));
    }

    #[test]
    fn losses_and_spoiled_lines_are_told() {
        let spoiled = FTRACE.replace("pfn=0x14afb4", "pfn=0xzz");
        let text =
            format!("{PERF}\nCPU:1 [LOST 123 EVENTS]\n{spoiled}\nx PERF_RECORD_LOST lost 7\n");
        let mut out = Vec::new();
        let imported = import(text.as_bytes(), &Known::default(), &mut out).unwrap();
        assert_eq!((imported.events, imported.side_events, imported.malformed_lines), (1, 2, 1));
        assert!(imported.inferred[0].contains("line 3"), "{:?}", imported.inferred);
        let mut reader = TraceReader::new(&out[..]).unwrap();
        let info = fragscope_trace::info::TraceInfo::read(&mut reader).unwrap();
        assert_eq!(info.lost.values().sum::<u64>(), 130);
    }

    #[test]
    fn text_without_events_is_refused() {
        let error = import(&b"hello\n"[..], &Known::default(), Vec::new()).unwrap_err();
        assert!(error.to_string().contains("no kmem:mm_page_alloc"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(line in "\\PC*", tail in ".*") {
            let _ = parse(&line);
            let _ = parse(&format!("x 1 [0] 1.{line}: mm_page_alloc: pfn={tail} order={line}"));
        }
    }
}
