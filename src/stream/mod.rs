//! The typed face: records of any type, closures instead of declared aggregates, micro-batches instead of event time.
//!
//! It stands on the same core as the declared face: keys are interned by [`crate::core::Groups`], values fold into the
//! cells of a [`crate::core::PaneStore`], a [`crate::core::Slider`] moves the window. What it brings of its own is the
//! layout of values (a vector of any `V`, no identity needed: the first value moves in) and the closures.
//!
//! # Known limitation
//! So far there is one operation over batches that are at hand, [`reduce_by_key_and_window`]; the streaming context
//! with receivers and state follows.

mod windowed;

pub use windowed::{NoInverse, WindowedBatches, reduce_by_key_and_window, reduce_by_key_and_window_inverse};
