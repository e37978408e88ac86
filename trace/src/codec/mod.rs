//! Payloads of frames: from values to bytes and back.
//!
//! Encoders append to a `Vec<u8>` and cannot fail but for a limit. Decoders take bytes that may be
//! hostile: every count is checked against the bytes that are left before anything is reserved
//! for it, and no value is trusted that a type does not have.

pub(crate) mod columns;
pub(crate) mod events;
pub(crate) mod sides;
pub(crate) mod snapshot;
pub mod varint;

use thiserror::Error;

use crate::page::MAX_EVENT_ORDER;

/// Why a value cannot be part of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// A side event is too long.
    #[error("a {kind} event takes {bytes} bytes, expected at most {}", sides::MAX_SIDE_BYTES)]
    LongSide {
        /// Name of its kind.
        kind: &'static str,
        /// Bytes it takes.
        bytes: usize,
    },
    /// An order that no block has.
    #[error("order {order}, expected at most {MAX_EVENT_ORDER}")]
    Order {
        /// What was found.
        order: u8,
    },
    /// A side event's position lies before that of the one before it, or behind the batch.
    #[error("side event {index} stands at position {at}, expected {from} to {to}")]
    Position {
        /// Which.
        index: usize,
        /// Where.
        at: u32,
        /// The first position it may have.
        from: u32,
        /// The last position it may have.
        to: usize,
    },
    /// A part that cannot be split is too long for one frame.
    #[error(
        "a {what} frame takes {bytes} bytes, expected at most {}",
        crate::frame::MAX_PAYLOAD_BYTES
    )]
    LongFrame {
        /// Kind of the frame.
        what: crate::frame::FrameKind,
        /// Bytes it takes.
        bytes: usize,
    },
    /// Not expressible as postcard.
    #[error("side event: {0}")]
    Postcard(#[from] postcard::Error),
    /// Not expressible as JSON.
    #[error("{0}")]
    Json(String),
    /// It breaks a rule that readers rely on.
    #[error(transparent)]
    Rule(#[from] crate::rules::Broken),
}

impl EncodeError {
    fn check_order(order: u8) -> Result<(), EncodeError> {
        if order > MAX_EVENT_ORDER { Err(EncodeError::Order { order }) } else { Ok(()) }
    }
}

/// Why a payload could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The payload ends too early.
    #[error("{what}: {needed} bytes needed, {left} left")]
    Short {
        /// What was to be read.
        what: &'static str,
        /// Bytes that it takes at least.
        needed: u64,
        /// Bytes that are there.
        left: u64,
    },
    /// A number is too large.
    #[error("{what}: found {found}, expected at most {limit}")]
    Limit {
        /// What was read.
        what: &'static str,
        /// Its value.
        found: u64,
        /// The largest it may have.
        limit: u64,
    },
    /// Bytes follow where nothing may.
    #[error("{left} bytes after the end of the {what}")]
    Trailing {
        /// What ended.
        what: &'static str,
        /// Bytes after it.
        left: u64,
    },
    /// Bytes are no value of a type.
    #[error("{what}: {reason}")]
    Value {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl DecodeError {
    /// A value error.
    pub(crate) fn value(what: &'static str, reason: impl Into<String>) -> DecodeError {
        DecodeError::Value { what, reason: reason.into() }
    }
}
