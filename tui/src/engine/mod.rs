//! The replay behind the screen: a thread for each host takes frames from its source, runs the
//! tracks over them and sends news to the state. The screen never waits for it.

pub mod keep;
pub mod outbox;
pub mod worker;
