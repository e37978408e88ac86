//! How faithful the stock model is: the running kernel against the model, beside the null model.
//!
//! The stock track begins as found and serves the recorded requests by its own rules. At every
//! later snapshot its free memory, pageblock types and tainted regions are compared with the
//! kernel's, and so is the *null model*: the state that the recording began with, unchanged. A
//! model is worth something only where it is closer to the kernel than that.
//!
//! * [`measure`]: the figures and their definitions, computed from surveys; [`fallback_counts`]:
//!   claims and steals among them;
//! * [`study`]: the passes over a recording that make the surveys;
//! * [`probe`]: real 1 GiB pages obtained at the end against the prediction;
//! * [`verdict`]: what holds, with error bars; [`table`]: all of it as text.

pub mod fallback_counts;
pub mod measure;
pub mod probe;
pub mod report;
pub mod study;
pub mod table;
pub mod verdict;

#[cfg(test)]
mod tests;

pub use report::FidelityReport;
pub use study::study;
