//! `fragscope-replay plot`: pictures of a recording and its replay.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::input::Input;
use super::synth::parse_seconds;
use super::{SettingsArgs, TraceArg, output};
use crate::observe::{StartState, TrackKind};
use crate::plot::history::replay;
use crate::plot::plot;
use crate::plot::theme::Theme;
use crate::start::TrackSpec;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct PlotArgs {
    #[command(flatten)]
    trace: TraceArg,
    /// Directory for the SVG files; it is made if need be.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Virtual time between samples, for example 1s or 0.1s.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_seconds)]
    interval: f64,
    /// Show policies from boot as well, with this seed.
    #[arg(long, value_name = "SEED")]
    from_boot: Option<u64>,
    /// On what the pictures will stand.
    #[arg(long, value_enum, default_value_t = ThemeArg::Light)]
    theme: ThemeArg,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ThemeArg {
    /// White paper.
    Light,
    /// A dark screen.
    Dark,
}

/// Draws the pictures and prints their names.
pub(super) fn run(args: &PlotArgs) -> Result<()> {
    let settings = args.settings.resolve()?;
    let mut tracks = Vec::new();
    for policy in [TrackKind::Stock, TrackKind::Spb] {
        let spec = TrackSpec { settings: settings.clone(), ..TrackSpec::as_found(policy) };
        if let Some(seed) = args.from_boot {
            tracks.push(TrackSpec { start: StartState::FromBoot, seed, ..spec.clone() });
        }
        tracks.push(spec);
    }
    let input = Input::new(&args.trace.trace)?;
    let history = replay(&mut input.open()?, tracks, (args.interval * 1e9) as u64)
        .with_context(|| input.name())?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("creating {}", args.out.display()))?;
    let theme = match args.theme {
        ThemeArg::Light => Theme::Light,
        ThemeArg::Dark => Theme::Dark,
    };
    let names: String = plot(&history, theme, &args.out)?
        .iter()
        .map(|path| format!("{}\n", path.display()))
        .collect();
    output::text_out(&names)
}
