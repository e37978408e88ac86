//! The terminal: taken over at the start, given back on every way out.

use std::io::{self, Stdout, stdout};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once};
use std::thread::{self, ThreadId};

use crossterm::cursor::{Hide, Show};
use crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

/// Whether the terminal is in our hands.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Messages of panics of other threads, while the terminal was in our hands.
static UNSAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// The panic hook is installed once for the process.
static HOOK: Once = Once::new();

/// The terminal in our hands. Given back when dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal over: raw mode, alternate screen, no cursor; the `mouse` if wanted.
    ///
    /// A panic of the calling thread gives it back before its message is printed. The message of
    /// another thread's panic is printed once the terminal is given back.
    ///
    /// # Errors
    /// If standard output is no terminal that can do this.
    pub fn enter(mouse: bool) -> io::Result<Screen> {
        let owner = thread::current().id();
        HOOK.call_once(|| install_hook(owner));
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        // From here on, whatever fails, dropping gives the terminal back.
        let restore = Restore;
        execute!(stdout(), EnterAlternateScreen, Hide)?;
        if mouse {
            execute!(stdout(), EnableMouseCapture)?;
        }
        let terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        std::mem::forget(restore);
        Ok(Screen { terminal })
    }

    /// The terminal to draw on.
    pub fn terminal(&mut self) -> &mut Terminal<CrosstermBackend<Stdout>> {
        &mut self.terminal
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back when dropped.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back, if it is in our hands. It may have gone: nothing can be done then.
pub fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(stdout(), DisableMouseCapture, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
        for message in UNSAID.lock().map(|mut m| std::mem::take(&mut *m)).unwrap_or_default() {
            eprintln!("{message}");
        }
    }
}

fn install_hook(owner: ThreadId) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let taken = TAKEN.load(Ordering::SeqCst);
        if taken && thread::current().id() != owner {
            let name = thread::current().name().unwrap_or("unnamed").to_owned();
            if let Ok(mut unsaid) = UNSAID.lock() {
                unsaid.push(format!("thread {name}: {info}"));
            }
            return;
        }
        restore();
        before(info);
    }));
}
