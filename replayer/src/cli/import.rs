//! `fragscope-replay import`: other formats as a trace.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fragscope_trace::frame::Frame;
use fragscope_trace::reader::TraceReader;
use fragscope_trace::snapshot::Snapshot;

use super::output::{self, Lines, grouped};
use super::synth::parse_bytes;
use crate::import::bare::Known;
use crate::import::{Imported, text};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// A directory that `export` wrote; a Parquet file of page events with the least columns
    /// (SCHEMA.md); or text of `perf script`, `trace-cmd report` or ftrace with kmem events, which
    /// `-` reads from standard input.
    #[arg(value_name = "INPUT")]
    input: PathBuf,
    /// Where the trace goes.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Unless it is an export: take the machine's geometry from this trace.
    #[arg(long, value_name = "TRACE")]
    machine: Option<PathBuf>,
    /// Unless it is an export: take the opening state, and the geometry, from the first snapshot of this trace.
    #[arg(long, value_name = "TRACE", conflicts_with = "machine")]
    snapshot: Option<PathBuf>,
    /// Unless it is an export: RAM of the machine, for example 24G; without it the highest page decides.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Unless it is an export: how much of that lies below 4 GiB.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    low_memory: Option<u64>,
    /// Print what was imported as JSON.
    #[arg(long)]
    json: bool,
}

/// Makes the trace and says what had to be inferred.
pub(super) fn run(args: &ImportArgs) -> Result<()> {
    let create = || {
        let file = File::create(&args.output);
        file.with_context(|| format!("creating {}", args.output.display()))
    };
    let imported = if args.input.is_dir() {
        import_tables(&args.input, create()?)?
    } else if is_parquet(&args.input) {
        import_columns(&args.input, &known(args)?, create()?)?
    } else {
        let known = known(args)?;
        let input = open_text(&args.input)?;
        text::import(input, &known, BufWriter::new(create()?))?
    };
    if args.json { output::json(&imported) } else { output::text_out(&summary(&imported)) }
}

#[cfg(feature = "analysis")]
fn import_tables(dir: &Path, out: File) -> Result<Imported> {
    crate::import::parquet::quieten_panics();
    Ok(crate::import::parquet::import(dir, BufWriter::new(out))?)
}

#[cfg(feature = "analysis")]
fn import_columns(path: &Path, known: &Known, out: File) -> Result<Imported> {
    crate::import::parquet::quieten_panics();
    Ok(crate::import::columns::import(path, known, BufWriter::new(out))?)
}

#[cfg(not(feature = "analysis"))]
fn import_tables(_: &Path, _: File) -> Result<Imported> {
    anyhow::bail!("this program was built without Parquet; build it with the feature `analysis`")
}

#[cfg(not(feature = "analysis"))]
fn import_columns(path: &Path, _: &Known, out: File) -> Result<Imported> {
    import_tables(path, out)
}

/// Whether a file is named or begins as Parquet does, so that an empty one is not taken for text.
fn is_parquet(path: &Path) -> bool {
    let mut magic = [0; 4];
    let named = path.extension().is_some_and(|extension| extension == "parquet");
    let mut begins = || File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok();
    named || path != Path::new("-") && begins() && magic == *b"PAR1"
}

fn open_text(path: &Path) -> Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
}

fn known(args: &ImportArgs) -> Result<Known> {
    let mut known =
        Known { memory_bytes: args.memory, low_bytes: args.low_memory, ..Known::default() };
    let open = |path: &Path| {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        TraceReader::new(BufReader::new(file)).with_context(|| path.display().to_string())
    };
    if let Some(path) = &args.machine {
        known.machine = Some(open(path)?.header().machine.clone());
    }
    if let Some(path) = &args.snapshot {
        let snapshot = first_snapshot(&mut open(path)?)?;
        known.snapshot =
            Some(snapshot.with_context(|| format!("{}: no snapshot", path.display()))?);
    }
    Ok(known)
}

fn first_snapshot<R: io::Read>(reader: &mut TraceReader<R>) -> Result<Option<Snapshot>> {
    while let Some(frame) = reader.next_frame()? {
        if let Frame::Snapshot(snapshot) = frame {
            return Ok(Some(*snapshot));
        }
    }
    Ok(None)
}

fn summary(imported: &Imported) -> String {
    let mut lines = Lines::default();
    lines.put("page events", grouped(imported.events));
    lines.put("rare events", grouped(imported.side_events));
    lines.put("snapshots", grouped(imported.snapshots));
    if imported.other_lines > 0 {
        lines.put("other lines", grouped(imported.other_lines));
    }
    if imported.malformed_lines > 0 {
        lines.put("unreadable lines", grouped(imported.malformed_lines));
    }
    for inferred in &imported.inferred {
        lines.put("inferred", inferred);
    }
    lines.into_text()
}
