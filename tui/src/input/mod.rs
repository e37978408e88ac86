//! From keys to actions. The key map is data: the footer and the help are generated from it.

pub mod action;
pub mod chord;
pub mod command;
pub mod keymap;

pub use action::Action;
pub use chord::Chord;
pub use keymap::KeyMap;
