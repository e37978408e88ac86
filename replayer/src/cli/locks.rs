//! `fragscope-replay locks`: the free path's locking protocols under a model checker.

use anyhow::{Result, bail};

use super::output;
use crate::locks::report::report;
use crate::locks::subject::Subject;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct LocksArgs {
    /// Explore only this protocol.
    #[arg(long, value_name = "P", value_parser = names())]
    protocol: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn names() -> clap::builder::PossibleValuesParser {
    let value =
        |subject: &Subject| clap::builder::PossibleValue::new(subject.name()).help(subject.about());
    Subject::ALL.iter().map(value).collect::<Vec<_>>().into()
}

/// Explores and prints; fails if something else was found than is known.
pub(super) fn locks(args: &LocksArgs) -> Result<()> {
    let chosen = args.protocol.as_deref().and_then(Subject::named);
    let report = match chosen {
        Some(subject) => report(&[subject]),
        None => report(&Subject::ALL),
    };
    if args.json {
        output::json(&report)?;
    } else {
        output::text_out(&report.text())?;
    }
    if !report.is_as_expected() {
        bail!("a protocol does not behave as is known of it");
    }
    Ok(())
}
