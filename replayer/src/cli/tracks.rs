//! Which tracks `export`, `plot` and `report` replay, and how often they look at them.

use anyhow::Result;
use fragscope_trace::event::TimeNs;

use super::SettingsArgs;
use super::synth::parse_seconds;
use crate::observe::{StartState, TrackKind};
use crate::start::TrackSpec;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct TracksArgs {
    /// Virtual time between samples of all tracks, for example 1s or 0.1s.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_seconds)]
    interval: f64,
    /// Replay both policies from boot as well, with this seed.
    #[arg(long, value_name = "SEED")]
    from_boot: Option<u64>,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl TracksArgs {
    /// Virtual time between samples, at least 1.
    pub(super) fn interval_ns(&self) -> TimeNs {
        ((self.interval * 1e9) as TimeNs).max(1)
    }

    /// Both policies as found, and from boot if asked for.
    pub(super) fn specs(&self) -> Result<Vec<TrackSpec>> {
        let settings = self.settings.resolve()?;
        let mut specs = Vec::new();
        for policy in [TrackKind::Stock, TrackKind::Spb] {
            let spec = TrackSpec { settings: settings.clone(), ..TrackSpec::as_found(policy) };
            if let Some(seed) = self.from_boot {
                specs.push(TrackSpec { start: StartState::FromBoot, seed, ..spec.clone() });
            }
            specs.push(spec);
        }
        Ok(specs)
    }
}
