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
//! What public engines test of their recovery, by the rows of the collected scenarios, and the tests that show it. Those without
//! a room lie beside this file; `resume`, `follow`, `recovery` and `recovery_refused` are parts of the integration tests.
//! Streams say in `recovery` what of D to H is theirs; the tests of both faces are named here where both have a say.
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
//! | C1 | without a folder nothing is logged | `recovery::c1_without_a_folder_nothing_is_written` |
//! | C2-C6, C9, C10 | which blocks belong to which batch: there are no blocks, the log has an entry for each batch | `stream::tests::recovery::receivers_go_on_after_a_death_at_every_operation` |
//! | C8 | beginning anew on an old log is refused | `recovery_refused::c8_a_folder_with_a_checkpoint_is_not_begun_anew` |
//! | D1-D4 | operators of streams; a replay has no batches that are run again: each record counts once, whatever the operator | `recovery::d1_*` to `d4_*`, `query::checkpoint::tests::windows_go_on` |
//! | D5 | what is run again leaves one complete copy | `recovery::d5_*`, `resume::a_killed_run_gives_the_same_bytes` |
//! | D6, D7, D14 | checkpoints appear, superseded ones go, two are kept | `two_slots_flip`, `recovery::d6_d7_d8_checkpoints_come_and_go` |
//! | D8 | state is there before anything new is read, and again the next time | `query::checkpoint::tests::a_run_that_dies_often_ends_all_the_same`, `recovery::d6_d7_d8_*` |
//! | D9 | a long pause: a replay knows no clock, a followed log is caught up with | `follow::a_followed_log_goes_on_behind_what_was_saved`, `recovery::d9_*` |
//! | D10 | what may be given anew (threads, memory) and what not | `query::checkpoint::tests::another_query_and_a_full_disk_are_refused`, `resume::another_run_is_refused_and_a_finished_one_says_so`, `recovery::d10_*` |
//! | D11, D12 | outputs that share a stream, the rate of receivers: streams only | `recovery::d11_*`, `d12_*` |
//! | D13 | class loaders: there are none, a state is columns or what the program's own types are read from | - |
//! | E | files across a restart: new ones while it is down, each once, the windows of before still count | `follow::a_followed_log_goes_on_behind_what_was_saved`, `recovery::e_files_are_taken_once_across_a_restart` |
//! | F1, F2 | killed at random moments, again and again | `resume::a_killed_run_gives_the_same_bytes`, `resume::a_killed_run_with_a_bound_gives_the_same_bytes`, `follow::a_followed_log_goes_on_behind_what_was_saved` |
//! | F3 | create or recover: the same command does either | `resume::another_run_is_refused_and_a_finished_one_says_so`, `recovery::f3_*` |
//! | G1, G3 | copies and chains of another engine's map: a state is one, and saved whole | - |
//! | G2, G4 | state of every shape, an empty one too | `query::checkpoint::tests::a_run_that_dies_often_ends_all_the_same` |
//! | G5 | no growth with the number of batches: a checkpoint names no other one | `two_slots_flip`, `recovery::g4_g5_*` |
//! | H | open windows, sliding and tumbling, and sessions, saved on the way | `query::checkpoint::tests::windows_that_close_on_the_way_go_on`, `sessions_that_close_on_the_way_go_on` |
//!
//! Damage: `query::checkpoint::tests::damage_is_told`, fuzz targets `manifest`, `log`, `received` and `checkpoint`.
//!
//! Every write and every sync that fails or is the last one, in turn (`query::checkpoint::tests` and `live_tests`), each with
//! counts, sums by subtraction, suffix folds, bags, sketches and an aggregate of the program's own:
//!
//! | source | windows | no window | sessions | with a bound of lateness |
//! |---|---|---|---|---|
//! | record batches | `windows_go_on`, `spilled_state_goes_on` | `one_group_by_goes_on` | `sessions_go_on` | `windows_that_close_on_the_way_go_on` (also tumbling), `sessions_that_close_on_the_way_go_on`, `what_comes_while_a_state_is_saved_waits` |
//! | Parquet | `parts_of_blocks_go_on`, `several_inputs_go_on` | | | `several_inputs_go_on` |
//! | text, plain and packed | `text_goes_on` | | | `text_goes_on` |
//! | followed files | | | | `followed_files_go_on` (also sessions) |
//! | standard input | | | | `standard_input_goes_on` (also sessions) |
//! | connections | | | | `connections_go_on` (also tumbling) |
//!
//! What is empty is the same code above another source. `a_run_that_dies_often_ends_all_the_same` mixes all of it and dies at random.
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
