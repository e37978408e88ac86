//! A sample that policy tracks have been asked for and may not have given yet.

use std::sync::mpsc::{Receiver, TryRecvError};

use super::worker::{PolicySample, TrackError, Worker};
use crate::observe::{BlockChanges, Sample};

/// The kernel track at one time, and the answers of the others for the same time as they come.
#[derive(Debug)]
pub struct Asked {
    kernel: Sample,
    kernel_blocks: Option<BlockChanges>,
    /// Position of each worker that was asked, and its answer once it has come.
    answers: Vec<(usize, Answer)>,
}

#[derive(Debug)]
enum Answer {
    Awaited(Receiver<PolicySample>),
    Given(Box<PolicySample>),
}

impl Asked {
    /// Asks the workers whose tracks are built. `kernel` has the kernel's track alone.
    ///
    /// # Errors
    /// If a track has ended.
    pub fn new(
        kernel: Sample,
        kernel_blocks: Option<BlockChanges>,
        workers: &mut [Worker],
    ) -> Result<Asked, TrackError> {
        let mut answers = Vec::new();
        for (i, worker) in workers.iter_mut().enumerate() {
            if worker.is_built()? {
                answers.push((i, Answer::Awaited(worker.ask(kernel_blocks.is_some())?)));
            }
        }
        Ok(Asked { kernel, kernel_blocks, answers })
    }

    /// Takes in what has been answered, or `wait`s for it. Returns whether everything is there.
    ///
    /// # Errors
    /// If a track has ended.
    pub fn poll(&mut self, workers: &mut [Worker], wait: bool) -> Result<bool, TrackError> {
        let mut complete = true;
        for (worker, answer) in &mut self.answers {
            let Answer::Awaited(receiver) = answer else { continue };
            let given = if wait {
                receiver.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                receiver.try_recv()
            };
            match given {
                Ok(sample) => *answer = Answer::Given(Box::new(sample)),
                Err(TryRecvError::Empty) => complete = false,
                Err(TryRecvError::Disconnected) => return Err(workers[*worker].failure()),
            }
        }
        Ok(complete)
    }

    /// The kernel's part and the answers, in the order of the workers.
    #[must_use]
    pub fn into_parts(self) -> (Sample, Option<BlockChanges>, Vec<PolicySample>) {
        let given = self.answers.into_iter().filter_map(|(_, answer)| match answer {
            Answer::Given(sample) => Some(*sample),
            Answer::Awaited(_) => None,
        });
        (self.kernel, self.kernel_blocks, given.collect())
    }
}
