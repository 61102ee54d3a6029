//! What of a run outlives it: the folder of its checkpoints, and the log of records that cannot be read again.
//!
//! - [`manifest`] says which checkpoint is the newest whole one: two slots, written in turn.
//! - [`log`] is written before records are counted that cannot be read again.
//! - [`directory`] is the folder: locked by its run, its files named by the manifest, swept of what no checkpoint needs.
//!
//! A checkpoint is files, which are complete and synced first, and a manifest that names them, which is written last. So
//! whatever is found after a crash is either the checkpoint before or the new one. What the files and the manifest's body
//! say is the business of the faces; nothing in here knows a key or a window.
//!
//! # Recovery scenarios
//!
//! What public engines test of their recovery, by the rows of the collected scenarios, and the tests that show it:
//!
//! | rows | what | test |
//! |---|---|---|
//! | A1, A6 | records by their handles, in any order | `a1_a6_records_are_read_by_their_handles_in_any_order` |
//! | A2 | a record is read before it is committed | `a2_a_record_is_read_at_once` |
//! | A3 | a segment from start to end | `a3_a_segment_is_read_from_start_to_end` |
//! | A4, A5 | garbage behind the last record; a cut inside it | `a4_a5_garbage_and_a_cut_at_the_end_cost_no_other_record` |
//! | A7 | lengths that lie | `a7_lies_are_no_records`, fuzz target `log` |
//! | A8 | nothing is created by reading | `a8_nothing_is_created_before_a_record_is_appended` |
//! | B1, B2 | rotation, order by number, foreign names | `b1_b2_segments_roll_and_are_ordered_by_number` |
//! | B3 | a segment for each record | `b3_every_record_may_have_a_segment_of_its_own` |
//! | B4, B5, B7 | a new log behind old segments | `b4_b5_b7_a_new_log_goes_on_behind_the_old_segments` |
//! | B6 | clean-up; there is no asynchronous one, removing a file waits for nothing | `b6_segments_that_ended_are_cleaned_never_the_current_one` |
//! | B8 | unreadable segments: an error, and with `skip_damaged` counted | `b8_unreadable_segments_do_not_stop_later_ones_if_that_is_asked_for` |
//! | B9, C11, C12 | segments that come back | `b9_segments_that_come_back_change_nothing` |
//! | B10, C7 | writes that fail | `b10_writes_are_tried_again_syncs_are_not` |
//! | B11 | several records in one write: every commit is one, and they keep their frames | all of the above |
//! | C1-C6, C8-C10 | which records belong to which batch of a stream: the log has an entry for each batch | integration tests `recovery`, `recovery_refused` |
//! | D5, D6, D7, D14 | a run that is done again replaces its output; checkpoints appear, and superseded ones go | `query::checkpoint::tests`, `two_slots_flip` |
//! | D10 | what may be given anew (threads, memory) and what not | `another_query_and_a_full_disk_are_refused`, `another_run_is_refused_and_a_finished_one_says_so` |
//! | D1-D4, D8, D9, D11-D13, E, F2, F3 | streams and their states | integration tests `recovery`, whose head has a table of its own |
//! | F1 | killed at random moments, again and again | `a_killed_run_gives_the_same_bytes`, `a_killed_run_with_a_bound_gives_the_same_bytes` |
//! | G1, G3, G5 | copies, chains and lineages of a state: there is one state, saved whole | - |
//! | G2, G4 | state of every shape, an empty one too | `a_run_that_dies_often_ends_all_the_same` |
//! | H | open windows and sessions | `windows_that_close_on_the_way_go_on`, `sessions_that_close_on_the_way_go_on` |
//!
//! Everything goes through a [`Disk`](crate::store::disk::Disk), so that tests can stop it after every write and sync.

pub mod directory;
pub mod log;
#[cfg(test)]
mod log_tests;
pub mod manifest;
#[cfg(test)]
mod tests;

pub use directory::Directory;
pub use log::{Handle, Log, LogOptions};
pub use manifest::Manifest;
