//! `record`: a trace to a file or a pipe.
//!
//! Order of things: attach; opening snapshot; then the command and the clock of `--duration`
//! start; at the end the closing snapshot, the probe for 1 GiB pages if one was asked for, and the
//! last frame. The first SIGINT ends in this order,
//! too; SIGTERM, SIGHUP or a second SIGINT end at once, without a closing snapshot.

mod child;
mod disk;
mod output;
mod parts;
mod probe;
mod sink;
mod summary;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use crossbeam_channel::{Receiver, after, bounded, never, select};
use fragscope_agent::live::{Control, LiveAgent, LiveOptions, closing_timeout};
use fragscope_agent::privileges::{Needs, Sandbox};
use fragscope_agent::{heap, priority, snapshots};
use fragscope_trace::causes;
use fragscope_trace::header::EndReason;
use fragscope_trace::writer::WriteError;

use self::child::Child;
use self::output::{Output, Written};
use self::probe::ProbeAtEnd;
use self::summary::Summary;
use crate::cli::RecordArgs;
use crate::confine;
use crate::signals::{self, Asked};

/// Events wait this long for their batch to fill: fewer, larger frames compress better.
const FLUSH: Duration = Duration::from_millis(200);
/// Time from a SIGTERM to the end of this program, with some left for the exit itself, where
/// somebody else decides how fast the output takes bytes.
const ABANDON_TIME: Duration = Duration::from_millis(55);
/// The same where the output is a file: on an overloaded machine the last frame may take longer,
/// and a trace that says how it ended is worth that.
const ABANDON_FILE_TIME: Duration = Duration::from_millis(500);

/// Runs the subcommand.
pub(crate) fn run(args: RecordArgs) -> Result<ExitCode> {
    heap::keep_freed();
    let write_in = output::folders_written(&args.output, &args.size);
    let needs = Needs { signals: !args.command.is_empty(), write_in, ..Needs::default() };
    // The probe for 1 GiB pages changes the host's settings in the end.
    let sandbox = confine::prepare(args.guard.no_sandbox || args.probe_1g, needs)?;
    let signals = signals::catch(sandbox.as_ref()).context("cannot catch signals")?;
    let output = Output::open(&args.output, &args.size)?;
    let command: Vec<String> =
        args.command.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let unasked = args.live.snapshot_every_unasked();
    let options = LiveOptions {
        flush: FLUSH,
        snapshot_timeout: args.snapshot_timeout,
        snapshot_every: args.snapshot_every.or_else(|| unasked.filter(|_| !args.no_snapshot)),
        command: (!command.is_empty()).then_some(command),
        names: args.guard.names()?,
        sandbox: sandbox.clone(),
        ..args.live.options(&args.tracer)
    };
    let abandon_time = if output.is_file() { ABANDON_FILE_TIME } else { ABANDON_TIME };
    let take = (!args.no_snapshot).then(snapshots::taker).transpose()?;
    let agent = LiveAgent::start(options, take)?;
    let (ready_tx, ready) = bounded(1);
    let (written_tx, written) = bounded(1);
    let frames = agent.frames().clone();
    let close_timeout = args
        .close_timeout
        .unwrap_or_else(|| closing_timeout(agent.header().machine.managed_pages()));
    let control = agent.control();
    let session = (frames, agent.recycler(), control.clone());
    let told = (ready_tx, written_tx);
    output.write_on_thread(session, !args.no_snapshot, told, sandbox.as_ref())?;
    if args.command.is_empty() {
        confine::enter(sandbox.as_ref())?;
    }
    let probe = args.probe_1g.then(|| ProbeAtEnd::order(&control)).transpose()?;
    let recording = Recording {
        control,
        closing: (!args.no_snapshot).then_some(close_timeout),
        abandon_time,
        args,
        signals,
        ready,
        written,
        child: None,
        ending: None,
        sandbox,
        probe,
    };
    recording.run(agent)
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// In order, with a closing snapshot.
    Orderly,
    /// At once; nobody waits any longer than until then.
    Abandoned { until: Instant, signal: i32 },
}

struct Recording {
    args: RecordArgs,
    control: Control,
    closing: Option<Duration>,
    abandon_time: Duration,
    signals: Receiver<Asked>,
    ready: Receiver<()>,
    written: Receiver<Written>,
    child: Option<Child>,
    ending: Option<Ending>,
    sandbox: Option<Arc<Sandbox>>,
    /// Last, because dropping it waits for the session, which must have been left before.
    probe: Option<ProbeAtEnd>,
}

impl Recording {
    fn run(mut self, agent: LiveAgent) -> Result<ExitCode> {
        let mut over = never();
        let mut ready = self.ready.clone();
        let written = loop {
            let running = self.child.as_ref().filter(|c| c.status().is_none());
            let child = running.map_or_else(never, |c| c.exited().clone());
            let give_up = match self.ending {
                Some(Ending::Abandoned { until, .. }) => crossbeam_channel::at(until),
                _ => never(),
            };
            select! {
                recv(self.written) -> written => break written.ok(),
                recv(give_up) -> _ => break None,
                recv(ready) -> _ => {
                    ready = never();
                    self.start_child()?;
                    over = self.args.duration.map_or_else(never, after);
                }
                recv(over) -> _ => self.stop(EndReason::Duration),
                recv(child) -> status => self.child_exited(status.ok()),
                recv(self.signals) -> asked => self.asked(asked.ok()),
            }
        };
        self.conclude(agent, written)
    }

    fn start_child(&mut self) -> Result<()> {
        if self.args.command.is_empty() || self.ending.is_some() {
            return Ok(());
        }
        let stdout_is_ours = self.args.json || output::is_stdout(&self.args.output);
        match Child::start(&self.args.command, stdout_is_ours, self.sandbox.as_ref()) {
            Ok(child) => {
                self.child = Some(child);
                // It runs as it was asked for; from here on this thread needs no rights, either.
                confine::enter(self.sandbox.as_ref())?;
            }
            Err(error) => {
                self.control
                    .abandon(EndReason::Failed { error: causes::in_one_line(error.as_ref()) });
                return Err(error);
            }
        }
        Ok(())
    }

    fn child_exited(&mut self, status: Option<i32>) {
        let Some(child) = &mut self.child else { return };
        // The thread that waits for the command always says how it ended.
        let status = status.unwrap_or(1);
        child.note_exit(status);
        self.stop(EndReason::CommandExited { status });
    }

    fn stop(&mut self, reason: EndReason) {
        if self.ending.is_none() {
            self.ending = Some(Ending::Orderly);
            self.control.stop(reason, self.closing);
        }
    }

    fn asked(&mut self, asked: Option<Asked>) {
        let Some(asked) = asked else { return };
        if let Some(child) = &self.child {
            child.pass_on(asked);
        }
        if asked.is_interrupt() && self.ending.is_none() {
            self.stop(EndReason::Interrupted);
        } else if !matches!(self.ending, Some(Ending::Abandoned { .. })) {
            let until = Instant::now() + self.abandon_time;
            self.ending = Some(Ending::Abandoned { until, signal: asked.signal });
            if let Some(probe) = &self.probe {
                probe.interrupt();
            }
            self.control.abandon(EndReason::Terminated);
            priority::raise_all_threads(priority::HIGHEST);
        }
    }

    /// The trace is written, or nobody waits for it any more.
    fn conclude(mut self, agent: LiveAgent, written: Option<Written>) -> Result<ExitCode> {
        let probed = self.probe.as_ref().and_then(ProbeAtEnd::outcome);
        // A probe that was under way held up the last frame.
        let late = || self.written.recv_timeout(self.abandon_time).ok();
        let written = written.or_else(|| probed.as_ref().and_then(|_| late()));
        let Some(written) = written else {
            eprintln!("fragscope-agent: ended while the output took nothing more");
            return Ok(self.exit_code());
        };
        match &written.result {
            Ok(()) => {}
            Err(error) if output::is_broken_pipe(error) => return Ok(ExitCode::SUCCESS),
            Err(error) => {
                let done = (written.events, written.bytes);
                return Ok(self.fail_to_write(agent, error, done));
            }
        }
        let header = agent.header().clone();
        // Its last frame is written, so it is over but for a few instructions.
        let report = agent.join_within(Duration::from_millis(500));
        let report = report.context("the tracing threads failed")?;
        if report.end.reason == EndReason::SizeLimit {
            // Nobody ordered it here; the command goes on unrecorded.
            self.ending.get_or_insert(Ending::Orderly);
        }
        if matches!(self.ending, Some(Ending::Orderly)) {
            self.await_child();
        }
        let command_status = self.child.as_ref().and_then(Child::status);
        let summary = Summary::new(&header, &report, &written, command_status, probed.as_ref());
        summary.print(self.args.json, output::is_stdout(&self.args.output))?;
        match probed {
            Some(Err(error)) => Err(error).context("the probe for 1 GiB pages failed"),
            _ => Ok(self.exit_code()),
        }
    }

    /// The output takes no more. What was being recorded goes on: its command is not this
    /// program's to end.
    fn fail_to_write(
        &mut self,
        agent: LiveAgent,
        error: &WriteError,
        (events, bytes): (u64, u64),
    ) -> ExitCode {
        let reason = causes::in_one_line(error);
        self.control.abandon(EndReason::Failed { error: reason.clone() });
        let report = agent.join_within(Duration::from_millis(500));
        let all = report.map_or(events, |report| report.end.totals.events);
        eprintln!(
            "fragscope-agent: cannot write the trace to {}, which holds {events} events in {bytes} \
             bytes and not the {} that followed: {reason}",
            self.args.output.display(),
            all.saturating_sub(events),
        );
        self.await_child();
        ExitCode::FAILURE
    }

    /// The recording may be over before the command is.
    fn await_child(&mut self) {
        while let Some(child) = self.child.as_mut().filter(|c| c.status().is_none()) {
            let exited = child.exited().clone();
            select! {
                recv(exited) -> status => child.note_exit(status.unwrap_or(1)),
                recv(self.signals) -> asked => match asked {
                    Ok(asked) => {
                        child.pass_on(asked);
                        if !asked.is_interrupt() {
                            return;
                        }
                    }
                    Err(_) => return,
                }
            }
        }
    }

    /// The command's status; that of a program killed by the signal if it did not end before; or
    /// success.
    fn exit_code(&self) -> ExitCode {
        let status = match (&self.child, self.ending) {
            (Some(child), ending) => child.status().unwrap_or(match ending {
                Some(Ending::Abandoned { signal, .. }) => 128 + signal,
                _ => 1,
            }),
            (None, _) => 0,
        };
        ExitCode::from(status as u8)
    }
}
