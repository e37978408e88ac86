//! The front door of fragscope and its dashboard.
//!
//! * [`conn`]: where traces come from, and how a connection says what it does;
//! * [`state`]: pure data; takes news, actions and the time;
//! * [`input`]: from keys to actions, as data;
//! * [`view`]: draws the state.
//!
//! The screen computes no figure about memory: those come from the replay, defined in
//! [`fragscope_trace::region`].

pub mod conn;
pub mod format;
pub mod input;
pub mod state;
pub mod view;
