//! `fragscope-agent`: the command line of the agent.

fn main() {}
