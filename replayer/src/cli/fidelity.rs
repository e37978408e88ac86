//! `fragscope-replay fidelity`: the stock model against the kernel.

use anyhow::{Context, Result};
use fragscope_trace::page::Pfn;

use super::input::Input;
use super::{SettingsArgs, TraceArg, output};
use crate::fidelity::{study, table};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct FidelityArgs {
    #[command(flatten)]
    trace: TraceArg,
    /// First frames of the 1 GiB pages that the kernel gave right after the recording, for
    /// example 0x40000,0x80000, if the recording itself holds no probe; `none` if it gave none.
    #[arg(long, value_name = "PFN,..", value_parser = granted)]
    granted: Option<Granted>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Pages of a probe that is not part of the recording.
#[derive(Clone, Debug)]
struct Granted(Vec<Pfn>);

fn granted(text: &str) -> Result<Granted, String> {
    if text == "none" {
        return Ok(Granted(Vec::new()));
    }
    text.split(',').map(pfn).collect::<Result<_, _>>().map(Granted)
}

fn pfn(text: &str) -> Result<Pfn, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16),
        None => text.parse(),
    };
    let pfn =
        Pfn(parsed.map_err(|error| format!("{text}: expected a page frame number ({error})"))?);
    let aligned = pfn.is_aligned(fragscope_trace::page::REGION_ORDER);
    aligned
        .then_some(pfn)
        .ok_or_else(|| format!("{text}: a 1 GiB page starts at a multiple of 0x40000"))
}

/// Replays and prints.
pub(super) fn fidelity(args: &FidelityArgs) -> Result<()> {
    let settings = args.settings.resolve()?;
    let input = Input::of_events(&args.trace.trace)?;
    let granted = args.granted.as_ref().map(|granted| granted.0.as_slice());
    let report = study(|| input.open(), &settings, granted).with_context(|| input.name())?;
    if args.json { output::json(&report) } else { output::text_out(&table::text(&report)) }
}
