//! Screens as files.

pub mod svg;
