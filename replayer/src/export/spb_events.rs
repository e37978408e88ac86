//! The tracepoints of the superpageblock series as a table.
//!
//! A column has the name of the field in JSON, so that both forms of the file say the same.

use std::path::Path;

use serde_json::Value;

use super::ExportError;
use super::schema::{Kind, SPB_EVENTS};
use super::table::{Cell, TableWriter};
use crate::mm::spb::event::RecordedEvent;

/// Writes tracepoints.
pub(crate) struct SpbEventTable {
    writer: TableWriter,
}

impl SpbEventTable {
    /// Creates the file.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn create(path: &Path) -> Result<SpbEventTable, ExportError> {
        let writer = TableWriter::create_file(path.to_owned(), &SPB_EVENTS)?;
        Ok(SpbEventTable { writer })
    }

    /// Adds a tracepoint.
    ///
    /// # Errors
    /// If rows cannot be written.
    pub(crate) fn push(&mut self, event: &RecordedEvent) -> Result<(), ExportError> {
        let fields = serde_json::to_value(event)?;
        let cells = SPB_EVENTS.columns.iter().map(|c| cell(c.kind, fields.get(c.name)));
        self.writer.push(&cells.collect::<Vec<_>>())
    }

    /// Writes what is left and the end of the file.
    ///
    /// # Errors
    /// If they cannot be written.
    pub(crate) fn finish(self) -> Result<(), ExportError> {
        self.writer.finish().map(|_bytes| ())
    }
}

/// A field as a value of its column; a field that the tracepoint does not have is null.
fn cell(kind: Kind, field: Option<&Value>) -> Cell<'_> {
    match (kind, field) {
        (Kind::U32, Some(Value::Number(n))) => {
            n.as_u64().and_then(|n| u32::try_from(n).ok()).into()
        }
        (_, Some(Value::Number(n))) => n.as_u64().into(),
        (_, Some(Value::Bool(b))) => Cell::Bool(*b),
        (_, Some(Value::String(text))) => Cell::Text(text),
        _ => Cell::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use fragscope_trace::gfp::Gfp;
    use fragscope_trace::page::Migratetype;
    use polars::prelude::{AnyValue, DataFrame, ParquetReader, SerReader};
    use proptest::prelude::*;

    use super::*;
    use crate::mm::spb::event::{ClaimRefusal, Outcome, RelaxStep, SpbEvent, WalkSnapshot};

    fn any_migratetype() -> impl Strategy<Value = Migratetype> {
        prop::sample::select(vec![
            Migratetype::Unmovable,
            Migratetype::Movable,
            Migratetype::Reclaimable,
            Migratetype::HighAtomic,
        ])
    }

    fn any_event() -> impl Strategy<Value = SpbEvent> {
        let numbers = (0..=10u8, any::<u32>(), any::<u32>(), any::<[bool; 3]>());
        let names = (
            prop::sample::select(ClaimRefusal::ALL.to_vec()),
            prop::sample::select(RelaxStep::ALL.to_vec()),
            prop::sample::select(Outcome::ALL.to_vec()),
        );
        (0..6usize, numbers, any_migratetype(), names).prop_map(
            |(which, (order, a, b, flags), migratetype, (reason, step, outcome))| match which {
                0 => SpbEvent::SpbPbTaint {
                    pfn: a,
                    migratetype,
                    set: flags[0],
                    is_first_or_last: flags[1],
                },
                1 => SpbEvent::SpbClaimBlockRefused {
                    pfn: a,
                    start_type: migratetype,
                    block_type: Migratetype::Movable,
                    reason,
                },
                2 => SpbEvent::SpbEvacuateForOrderDone {
                    order,
                    migratetype,
                    phase1_attempts: a,
                    phase2_attempts: 0,
                    did_evacuate: flags[0],
                },
                3 => {
                    let gfp_mask = Gfp::from_bits_truncate(a);
                    SpbEvent::SpbAllocAtomicRelax { order, migratetype, gfp_mask, step }
                }
                4 => SpbEvent::SpbAllocWalk {
                    order,
                    migratetype,
                    alloc_flags: a,
                    outcome,
                    n_spbs_visited: b,
                },
                _ => SpbEvent::SpbAllocFallThrough {
                    order,
                    migratetype,
                    alloc_flags: a,
                    n_tainted: b,
                    n_tainted_with_buddy: 1,
                    saw: WalkSnapshot {
                        saw_free_pages: flags[0],
                        saw_free_pb: flags[1],
                        saw_below_reserve: flags[2],
                    },
                },
            },
        )
    }

    fn read_back(path: &Path) -> DataFrame {
        ParquetReader::new(File::open(path).unwrap()).finish().unwrap()
    }

    /// Row `row` as the object that JSON lines have: columns that are null are left out.
    fn row_as_json(table: &DataFrame, row: usize) -> Value {
        let fields = table.columns().iter().filter_map(|column| {
            let value = match column.get(row).unwrap() {
                AnyValue::Null => return None,
                AnyValue::String(text) => Value::from(text),
                // What the only row of a table has.
                AnyValue::StringOwned(text) => Value::from(text.as_str()),
                AnyValue::Boolean(b) => Value::from(b),
                number => Value::from(number.extract::<u64>().unwrap()),
            };
            Some((column.name().to_string(), value))
        });
        Value::Object(fields.collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Every field of every tracepoint comes back under its own name, and nothing else.
        #[test]
        fn p40_rows_say_what_json_lines_say(
            events in prop::collection::vec((any::<u64>(), 0..8u16, any_event()), 1..40),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("any name");
            let events: Vec<RecordedEvent> = events
                .into_iter()
                .map(|(time_ns, zone, event)| RecordedEvent { time_ns, zone, event })
                .collect();
            let mut table = SpbEventTable::create(&path).unwrap();
            events.iter().for_each(|event| table.push(event).unwrap());
            table.finish().unwrap();
            let table = read_back(&path);
            prop_assert_eq!(table.height(), events.len());
            for (row, event) in events.iter().enumerate() {
                prop_assert_eq!(row_as_json(&table, row), serde_json::to_value(event).unwrap());
            }
        }
    }
}
