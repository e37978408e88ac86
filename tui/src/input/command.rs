//! Every action by its name: what the palette offers and the configuration file binds keys to.

use super::action::Action;
use crate::state::ui::ViewId;

/// An action with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// As it is typed.
    pub name: &'static str,
    /// What it does.
    pub action: Action,
    /// In a few words.
    pub help: &'static str,
}

const fn command(name: &'static str, action: Action, help: &'static str) -> Command {
    Command { name, action, help }
}

/// All commands, in the order of the help.
pub const COMMANDS: [Command; 39] = [
    command("hosts", Action::View(ViewId::Hosts), "a line for each host, where there are several"),
    command("overview", Action::View(ViewId::Overview), "how many 1 GiB pages, and where"),
    command("regions", Action::View(ViewId::Regions), "each 1 GiB region in every track"),
    command("blame", Action::View(ViewId::Blame), "who tainted regions"),
    command("allocator", Action::View(ViewId::Allocator), "counters of the policies"),
    command("health", Action::View(ViewId::Health), "rates, losses, fidelity, own cost"),
    command("next-view", Action::NextView, "show the next view"),
    command("previous-view", Action::PreviousView, "show the view before"),
    command("start-state", Action::ToggleStart, "policies as-found or from-boot"),
    command("next-host", Action::NextHost, "show the next host"),
    command("up", Action::Move(-1), "select the row above"),
    command("down", Action::Move(1), "select the row below"),
    command("page-up", Action::Page(-1), "move up by a page"),
    command("page-down", Action::Page(1), "move down by a page"),
    command("first", Action::First, "first row, or the beginning"),
    command("last", Action::Last, "last row, or the newest moment"),
    command("open", Action::Enter, "open what is selected"),
    command("close", Action::Back, "close what is open, clear the filter"),
    command("sort", Action::Sort, "sort by the next column"),
    command("reverse", Action::ReverseSort, "turn the order round"),
    command("filter", Action::Filter, "show only rows with a text"),
    command("pause", Action::Pause, "pause, go on; play a recording"),
    command("step-back", Action::Step(-1), "one sample back"),
    command("step-on", Action::Step(1), "one sample on"),
    command("minute-back", Action::Minutes(-1), "one minute back"),
    command("minute-on", Action::Minutes(1), "one minute on"),
    command("next-taint", Action::Taint(1), "next taint of the kernel track"),
    command("previous-taint", Action::Taint(-1), "previous taint of the kernel track"),
    command("first-loss", Action::FirstLoss, "where the first 1 GiB page was lost"),
    command("go-to-time", Action::GoToTime, "type a time to go to"),
    command("faster", Action::Speed(1), "play faster"),
    command("slower", Action::Speed(-1), "play slower"),
    command("zoom-in", Action::Zoom(1), "less time in the charts"),
    command("zoom-out", Action::Zoom(-1), "more time in the charts"),
    command("help", Action::Help, "keys and words"),
    command("palette", Action::Palette, "type a command"),
    command("save", Action::Save, "write what is kept of a live trace to a file"),
    command("export-svg", Action::ExportSvg, "write this screen to an SVG file"),
    command("quit", Action::Quit, "leave"),
];

/// The command of a name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| c.name == name)
}

/// Commands for what was typed: those whose name begins so, then those that contain it, in name
/// or help. Nothing typed matches all.
#[must_use]
pub fn matching(text: &str) -> Vec<&'static Command> {
    let text = text.trim().to_lowercase();
    let rank = |c: &Command| {
        if c.name.starts_with(&text) {
            Some(0)
        } else if c.name.contains(&text) {
            Some(1)
        } else {
            c.help.to_lowercase().contains(&text).then_some(2)
        }
    };
    let mut found: Vec<(i32, &Command)> =
        COMMANDS.iter().filter_map(|c| Some((rank(c)?, c))).collect();
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, command)| command).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::input::KeyMap;

    #[test]
    fn every_bound_action_has_a_name_and_every_name_is_one() {
        let names: HashSet<&str> = COMMANDS.iter().map(|c| c.name).collect();
        assert_eq!(names.len(), COMMANDS.len());
        let map = KeyMap::default();
        for (chord, action) in map.bindings().iter().flat_map(|b| &b.keys) {
            assert!(COMMANDS.iter().any(|c| c.action == *action), "{chord} does {action:?}");
        }
        for command in &COMMANDS {
            assert!(map.key_of(command.action).is_some(), "{} has no key", command.name);
        }
    }

    #[test]
    fn the_nearest_comes_first() {
        assert_eq!(matching("").len(), COMMANDS.len());
        assert_eq!(matching("qu").first().map(|c| c.name), Some("quit"));
        let names: Vec<&str> = matching("taint").iter().map(|c| c.name).collect();
        assert_eq!(names, ["next-taint", "previous-taint", "blame"]);
        assert!(matching("zzz").is_empty());
    }
}
