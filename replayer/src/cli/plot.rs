//! `fragscope-replay plot`: pictures of a recording and its replay.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::TraceArg;
use super::input::Input;
use super::output::{self, Progress};
use super::tracks::TracksArgs;
use crate::plot::history::replay;
use crate::plot::theme::Theme;
use crate::plot::{pictures, png};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct PlotArgs {
    #[command(flatten)]
    trace: TraceArg,
    /// Directory for the pictures; it is made if need be.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// On what the pictures will stand.
    #[arg(long, value_enum, default_value_t = ThemeArg::Light)]
    theme: ThemeArg,
    /// What files to write.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "svg,png")]
    format: Vec<Format>,
    #[command(flatten)]
    tracks: TracksArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ThemeArg {
    /// White paper.
    Light,
    /// A dark screen.
    Dark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Scales to any size.
    Svg,
    /// Pixels, two for each point.
    Png,
}

/// Draws the pictures and prints their names.
pub(super) fn run(args: &PlotArgs) -> Result<()> {
    let input = Input::of_events(&args.trace.trace)?;
    let specs = args.tracks.specs()?;
    let mut progress = Progress::new("replaying", input.bytes());
    let interval_ns = args.tracks.interval_ns();
    let history = replay(|| input.open(), specs, interval_ns, |at| progress.show(at));
    progress.end();
    let history = history.with_context(|| input.name())?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("creating {}", args.out.display()))?;
    let theme = match args.theme {
        ThemeArg::Light => Theme::Light,
        ThemeArg::Dark => Theme::Dark,
    };
    let mut names = String::new();
    for picture in pictures(&history, theme)? {
        for format in &args.format {
            let (extension, bytes) = match format {
                Format::Svg => ("svg", picture.svg.clone().into_bytes()),
                Format::Png => ("png", png(&picture.svg)?),
            };
            let path = args.out.join(format!("{}.{extension}", picture.name));
            std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
            names += &format!("{}\n", path.display());
        }
    }
    output::text_out(&names)
}
