//! The engine's heart: it sees hashes, partition numbers, [`GroupId`]s, pane indexes and row numbers, and nothing else.
//!
//! Pure: no files, no threads, no clocks, no Arrow, no closures of users. Keys live behind a [`KeyStore`], values
//! behind [`States`]; both faces bring their own. The life of a record here: its time gives a pane
//! ([`window::WindowSpec`]), its key a [`GroupId`] ([`groups::Groups`]), its value is folded into the cell
//! `(pane, group)` of a [`panes::PaneStore`], and [`slide::Slider`] moves a window over the sealed panes.

pub mod counts;
pub mod decimals;
pub mod dictionary;
pub mod groups;
pub mod live;
pub mod panes;
pub mod partition;
pub mod sealed;
pub mod session;
pub mod slide;
pub mod suffix;
pub mod watermark;
pub mod window;
pub mod words;

pub use groups::{GroupId, Groups, KeyStore};
pub use panes::{Log, PaneKey, PaneStore, Run, States};
pub use sealed::SealedPanes;
pub use session::{Sessions, Span};
pub use slide::{Slider, WindowTable};
pub use window::{PaneIndex, WindowIndex, WindowSpec};
