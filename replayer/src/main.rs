//! `fragscope-replay`: see [`fragscope_replay::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    fragscope_replay::cli::main()
}
