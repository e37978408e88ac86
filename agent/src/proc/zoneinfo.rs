//! `/proc/zoneinfo`: sizes, watermarks and per-CPU pagesets of every zone.

use fragscope_trace::machine::{Pageset, Watermarks, Zone, ZoneKind};
use fragscope_trace::page::{CpuId, Pfn, PfnRange};

use super::ProcError;

const FILE: &str = "/proc/zoneinfo";

/// Reads the populated zones of this host, in the order of the file.
///
/// # Errors
/// If the file cannot be read or understood.
pub fn read() -> Result<Vec<Zone>, ProcError> {
    parse(&super::read(FILE)?)
}

/// Parses the file. Zones without pages and the device zone, which never reaches the buddy
/// allocator, are left out; so are all counters that [`Zone`] has no field for.
///
/// # Errors
/// If a line that matters is malformed, or a zone lacks its span.
pub fn parse(text: &str) -> Result<Vec<Zone>, ProcError> {
    let mut zones = Vec::new();
    let mut current: Option<Section> = None;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("Node ") {
            finish(&mut zones, current.take());
            current = Some(Section::begin(index + 1, line)?);
        } else if let Some(section) = &mut current {
            section.line(index + 1, line)?;
        } else if !line.trim().is_empty() {
            return Err(ProcError::parse(FILE, index + 1, "Node N, zone NAME", line));
        }
    }
    finish(&mut zones, current);
    if zones.is_empty() {
        return Err(ProcError::parse(FILE, 0, "at least one populated zone", ""));
    }
    Ok(zones)
}

fn finish(zones: &mut Vec<Zone>, section: Option<Section>) {
    let Some(Section { zone: Some(mut zone), .. }) = section else { return };
    if zone.spanned_pages > 0 {
        zone.watermarks = without_boost(zone.watermarks, zone.watermark_boost);
        zones.push(zone);
    }
}

/// The file shows watermarks with the boost that is in force.
fn without_boost(shown: Watermarks, boost: u64) -> Watermarks {
    // The lines are not printed under a lock: the boost may be older than the marks.
    let bare = |pages: u64| pages.saturating_sub(boost);
    Watermarks {
        min: bare(shown.min),
        low: bare(shown.low),
        high: bare(shown.high),
        promo: bare(shown.promo),
    }
}

/// The lines of one zone.
struct Section {
    /// `None` for a zone of no interest, whose lines are skipped.
    zone: Option<Zone>,
}

impl Section {
    fn begin(number: usize, line: &str) -> Result<Section, ProcError> {
        let malformed = || ProcError::parse(FILE, number, "Node N, zone NAME", line);
        let (node, name, _) = super::node_and_zone(line).ok_or_else(malformed)?;
        Ok(Section {
            zone: ZoneKind::from_name(name)
                .map(|kind| Zone::new(node, kind, PfnRange::new(Pfn(0), 0))),
        })
    }

    fn line(&mut self, number: usize, line: &str) -> Result<(), ProcError> {
        let Some(zone) = &mut self.zone else { return Ok(()) };
        let Some((name, value)) = name_and_value(line) else { return Ok(()) };
        let understood = match name {
            "protection" => reserve(value).map(|pages| zone.lowmem_reserve = pages),
            _ => set(zone, name, value),
        };
        understood.ok_or_else(|| ProcError::parse(FILE, number, "a number of pages", line))
    }
}

/// Splits `high_min: 5718`, `managed  917504` or `pages free     3840`.
fn name_and_value(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let line = line.strip_prefix("pages ").unwrap_or(line);
    let (name, value) = line.split_once([' ', ':', '\t'])?;
    Some((name, value.trim_start_matches([' ', ':', '\t'])))
}

/// Stores a value under its name; names of no interest are fine. `None` for a bad number.
fn set(zone: &mut Zone, name: &str, value: &str) -> Option<()> {
    if name == "cpu" {
        let cpu = CpuId(value.trim().parse().ok()?);
        zone.pagesets.push(Pageset { cpu, ..Pageset::default() });
        return Some(());
    }
    let Some(field) = field(zone, name) else { return Some(()) };
    *field = value.trim().parse().ok()?;
    Some(())
}

/// The field that a name stands for. Names inside a pageset belong to the last one begun.
fn field<'a>(zone: &'a mut Zone, name: &str) -> Option<&'a mut u64> {
    Some(match name {
        "free" => &mut zone.free_pages,
        "boost" => &mut zone.watermark_boost,
        "min" => &mut zone.watermarks.min,
        "low" => &mut zone.watermarks.low,
        "promo" => &mut zone.watermarks.promo,
        "spanned" => &mut zone.spanned_pages,
        "present" => &mut zone.present_pages,
        "managed" => &mut zone.managed_pages,
        "start_pfn" => &mut zone.start_pfn.0,
        // The watermark comes before the first pageset, whose limit has the same name.
        "high" if zone.pagesets.is_empty() => &mut zone.watermarks.high,
        "high" => &mut zone.pagesets.last_mut()?.high,
        "count" => &mut zone.pagesets.last_mut()?.count,
        "batch" => &mut zone.pagesets.last_mut()?.batch,
        "high_min" => &mut zone.pagesets.last_mut()?.high_min,
        "high_max" => &mut zone.pagesets.last_mut()?.high_max,
        _ => return None,
    })
}

/// Parses `(0, 3019, 6603)`.
fn reserve(value: &str) -> Option<Vec<u64>> {
    let inner = value.trim().strip_prefix('(')?.strip_suffix(')')?;
    inner.split(',').map(|pages| pages.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
Node 1, zone   Normal
  per-node stats
      nr_inactive_anon 1664
  pages free     759981
        boost    7
        min      9149
        low      11436
        high     13723
        promo    16010
        spanned  5505024
        present  5505020
        managed  917504
        cma      0
        protection: (0, 12, 345)
      nr_free_pages 759981
  pagesets
    cpu: 0
              count:    5555
              high:     5970
              batch:    63
              high_min: 5718
              high_max: 57344
  vm stats threshold: 24
    cpu: 3
              count:    1
              high:     2
              batch:    3
  vm stats threshold: 24
  node_unreclaimable:  0
  start_pfn:           1048576
Node 1, zone  Movable
  pages free     0
        high     32
        spanned  0
        protection: (0, 0)
Node 1, zone   Device
  pages free     0
";

    #[test]
    fn a_zone_is_read_whole() {
        let zones = parse(TEXT).unwrap();
        let [zone] = &zones[..] else { panic!("{zones:?}") };
        assert_eq!((zone.node, zone.kind, zone.start_pfn), (1, ZoneKind::Normal, Pfn(1_048_576)));
        let sizes = (zone.spanned_pages, zone.present_pages, zone.managed_pages);
        assert_eq!(sizes, (5_505_024, 5_505_020, 917_504));
        // As shown, less the boost of 7.
        let marks = Watermarks { min: 9142, low: 11_429, high: 13_716, promo: 16_003 };
        assert_eq!((zone.watermarks, zone.watermark_boost), (marks, 7));
        assert_eq!((zone.free_pages, &zone.lowmem_reserve[..]), (759_981, &[0, 12, 345][..]));
        assert_eq!(zone.pagesets.len(), 2);
        assert_eq!((zone.pagesets[0].high, zone.pagesets[0].high_max), (5970, 57_344));
        assert_eq!((zone.pagesets[1].cpu, zone.pcp_pages()), (CpuId(3), 5556));
    }

    #[test]
    fn a_bad_number_is_named() {
        let error = parse(&TEXT.replace("boost    7", "boost    seven")).unwrap_err();
        let text = "/proc/zoneinfo, line 5: expected a number of pages, found \"boost    seven\"";
        assert_eq!(error.to_string(), text);
        assert!(parse("").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(Node [0-9], zone +(DMA|Normal)\n)?( *[a-z_]+:? *[0-9(),x]*\n){0,20}") {
            let _ = parse(&text);
        }

        /// Any line may be lost or doubled without a panic.
        #[test]
        fn damaged_text_never_panics(cut in 0..TEXT.len(), from in 0..TEXT.len()) {
            let _ = parse(&TEXT[cut.min(from)..]);
            let _ = parse(&format!("{}{}", &TEXT[..cut], &TEXT[from..]));
        }
    }

    #[test]
    fn this_host_is_understood() {
        let zones = read().unwrap();
        assert!(zones.iter().all(|z| z.managed_pages <= z.present_pages));
        assert!(zones.iter().all(|z| z.present_pages <= z.spanned_pages));
    }
}
