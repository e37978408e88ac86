//! `fragscope-replay policies`: what can be set.

use anyhow::Result;

use super::{SettingsArgs, output};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct PoliciesArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Lists all settings.
pub(super) fn policies(args: &PoliciesArgs) -> Result<()> {
    let list = args.settings.resolve()?.list();
    if args.json {
        return output::json(&list);
    }
    let mut lines = output::Lines::default();
    for setting in &list {
        lines.raw(&format!("{setting}"));
    }
    output::text_out(&lines.into_text())
}
