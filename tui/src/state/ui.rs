//! What the user is looking at.

use fragscope_replay::observe::StartState;

use super::lists::ListState;

/// A view, by its tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ViewId {
    /// A line for each host; only where there are several.
    Hosts,
    /// The answer in ten seconds.
    Overview,
    /// All regions as a list, and one in detail.
    Regions,
    /// Who tainted regions.
    Blame,
    /// Counters of the allocators.
    Allocator,
    /// Rates, losses, fidelity, the kernel's and the agent's facts.
    Health,
}

impl ViewId {
    /// All views in the order of their tabs.
    pub const ALL: [ViewId; 6] = [
        ViewId::Hosts,
        ViewId::Overview,
        ViewId::Regions,
        ViewId::Blame,
        ViewId::Allocator,
        ViewId::Health,
    ];

    /// The views that a dashboard over `hosts` hosts has.
    #[must_use]
    pub fn of(hosts: usize) -> &'static [ViewId] {
        if hosts > 1 { &Self::ALL } else { &Self::ALL[1..] }
    }

    /// Word on its tab, and its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ViewId::Hosts => "hosts",
            ViewId::Overview => "overview",
            ViewId::Regions => "regions",
            ViewId::Blame => "blame",
            ViewId::Allocator => "allocator",
            ViewId::Health => "health",
        }
    }

    /// The view `by` tabs further on among those of so many hosts, around the end.
    #[must_use]
    pub fn neighbour(self, by: isize, hosts: usize) -> ViewId {
        let views = Self::of(hosts);
        let at = views.iter().position(|v| *v == self).unwrap_or(0) as isize;
        views[(at + by).rem_euclid(views.len() as isize) as usize]
    }
}

/// How much time the charts span, in seconds; `None` for all that is kept.
pub const ZOOMS: [Option<u64>; 6] =
    [Some(10), Some(60), Some(600), Some(3600), Some(6 * 3600), None];

/// Text being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What it is for.
    pub kind: PromptKind,
    /// What was typed so far.
    pub text: String,
    /// Marked row of what matches, where there is a list.
    pub selected: usize,
}

/// What a prompt asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptKind {
    /// A filter for the list shown.
    Filter,
    /// A time to go to.
    Time,
    /// A command to do.
    Command,
}

impl PromptKind {
    /// What stands before the text.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            PromptKind::Filter => "filter: ",
            PromptKind::Command => ":",
            PromptKind::Time => "go to time (14:03, 14:03:21, +30s, -5m, end): ",
        }
    }
}

/// The screen's own state. Changing the view loses none of it.
#[derive(Clone, Debug)]
pub struct Ui {
    /// View shown.
    pub view: ViewId,
    /// Whether the selected region is open, in the regions view.
    pub region_open: bool,
    /// Whether the free lists of an open region go before its pageblocks.
    pub free_lists: bool,
    /// Whether the help covers the view.
    pub help: bool,
    /// First line of the help that is shown.
    pub help_scroll: usize,
    /// Which start state of the policy tracks is shown where only one has room.
    pub start: StartState,
    /// Position in [`ZOOMS`].
    pub zoom: usize,
    /// Lists by view.
    lists: [ListState; ViewId::ALL.len()],
    /// Text being typed, if any.
    pub prompt: Option<Prompt>,
    /// Answer to the last key, shown until the next.
    pub message: Option<String>,
}

impl Default for Ui {
    fn default() -> Ui {
        Ui {
            view: ViewId::Overview,
            region_open: false,
            free_lists: false,
            help: false,
            help_scroll: 0,
            start: StartState::AsFound,
            zoom: 2,
            lists: Default::default(),
            prompt: None,
            message: None,
        }
    }
}

impl Ui {
    /// The list of a view.
    #[must_use]
    pub fn list(&self, view: ViewId) -> &ListState {
        &self.lists[view as usize]
    }

    /// The list of the view shown.
    pub fn list_mut(&mut self) -> &mut ListState {
        &mut self.lists[self.view as usize]
    }
}
