//! Everything that a user can do.

use fragscope_trace::event::TimeNs;

use crate::state::ui::ViewId;

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leave.
    Quit,
    /// Open or close the help.
    Help,
    /// Show a view.
    View(ViewId),
    /// Show the next view.
    NextView,
    /// Show the view before.
    PreviousView,
    /// Move the selection by rows.
    Move(isize),
    /// Move the selection by pages of rows.
    Page(isize),
    /// Select the first row, or go to the beginning where there is no list.
    First,
    /// Select the last row, or go to the newest where there is no list.
    Last,
    /// Select a row.
    Select(usize),
    /// Select the region at this position of the tracks' lists, and open it.
    OpenRegion(usize),
    /// Go to this time of the traced host.
    GoTo(TimeNs),
    /// Open what is selected.
    Enter,
    /// Close what is open.
    Back,
    /// Pause or go on.
    Pause,
    /// Go by samples.
    Step(isize),
    /// Go by minutes.
    Minutes(i64),
    /// Go to the next (1) or previous (-1) taint of the kernel track.
    Taint(isize),
    /// Go to the first sample at which fewer 1 GiB pages could be had than at the beginning.
    FirstLoss,
    /// Play faster (1) or slower (-1).
    Speed(isize),
    /// Show less (1) or more (-1) time in charts.
    Zoom(isize),
    /// Sort by the next column.
    Sort,
    /// Turn the order round.
    ReverseSort,
    /// Type a filter.
    Filter,
    /// Type a time.
    GoToTime,
    /// Show the other start state.
    ToggleStart,
    /// Show the next host.
    NextHost,
    /// Type a command.
    Palette,
    /// Write what is kept of a live trace to a file.
    Save,
    /// Write this screen to an SVG file.
    ExportSvg,
}
