//! Pure data: what is known and what is looked at. Reads no clock, no file, no terminal.
//!
//! [`State::update`] takes news of a host, [`State::act`] a user's action, [`State::tick`] the
//! time. Everything the screen shows follows from the state.

pub mod act;
pub mod blame;
pub mod blocks;
pub mod clock;
pub mod counters;
pub mod cursor;
pub mod facts;
pub mod flat;
pub mod headline;
pub mod history;
pub mod host;
pub mod hosts;
pub mod lists;
pub mod pace;
pub mod rates;
pub mod rows;
pub mod seek;
pub mod ui;
pub mod warnings;
#[cfg(test)]
mod work;

use jiff::tz::TimeZone;

use clock::Now;
use host::{Host, Update};
use ui::Ui;

/// Position of a host in [`State::hosts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostId(pub usize);

/// Everything.
#[derive(Clone, Debug)]
pub struct State {
    /// Hosts in the order given on the command line; never empty.
    hosts: Vec<Host>,
    selected: usize,
    /// What is looked at.
    pub ui: Ui,
    /// Now.
    pub now: Now,
    /// Zone of all times shown.
    pub zone: TimeZone,
}

impl State {
    /// A state over these hosts.
    ///
    /// # Panics
    /// Without any host.
    #[must_use]
    pub fn new(hosts: Vec<Host>, zone: TimeZone) -> State {
        assert!(!hosts.is_empty(), "a dashboard needs a host");
        State { hosts, selected: 0, ui: Ui::default(), now: Now::default(), zone }
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host shown.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.hosts[self.selected]
    }

    /// The host shown.
    pub fn host_mut(&mut self) -> &mut Host {
        &mut self.hosts[self.selected]
    }

    /// Position of the host shown.
    #[must_use]
    pub fn selected_host(&self) -> usize {
        self.selected
    }

    /// Shows the next host.
    pub fn next_host(&mut self) {
        self.selected = (self.selected + 1) % self.hosts.len();
    }

    /// Shows the host at this position.
    pub fn show_host(&mut self, index: usize) {
        self.selected = index.min(self.hosts.len() - 1);
    }

    /// Takes in news of a host.
    pub fn update(&mut self, id: HostId, update: Update) {
        if let Update::Notice(text) = update {
            self.ui.message = Some(text);
        } else if let Some(host) = self.hosts.get_mut(id.0) {
            let awaited = host.awaited();
            host.update(update);
            if let Some(time_ns) = awaited.filter(|_| !host.is_being_read()) {
                host.seek(time_ns);
                self.say_if_outside(id, time_ns);
            }
            self.hosts[id.0].refresh();
        }
    }

    /// Lets time pass. Returns whether the screen may look different.
    pub fn tick(&mut self, now: Now) -> bool {
        let elapsed = now.uptime.saturating_sub(self.now.uptime).as_nanos() as u64;
        let second = |n: Now| n.wall.as_second();
        let mut changed = second(now) != second(self.now);
        self.now = now;
        for host in &mut self.hosts {
            let Some(range) = host.range() else {
                changed = true;
                continue;
            };
            let before = host.shown().map(|s| s.time_ns);
            let growing = host.is_growing();
            host.cursor.advance(elapsed, range, growing);
            host.pace.note(now.uptime, range.1);
            host.refresh();
            changed |= host.shown().map(|s| s.time_ns) != before;
        }
        changed
    }
}
