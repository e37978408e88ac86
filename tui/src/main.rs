//! `fragscope`: the front door.

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use fragscope::cli::Cli;
use fragscope_trace::causes;

fn main() -> ExitCode {
    match fragscope::run(&Cli::parse()) {
        Ok(status) => ExitCode::from(status),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fragscope: {}", causes::in_one_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Whoever read our output has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|e| e.downcast_ref::<io::Error>());
    io.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
