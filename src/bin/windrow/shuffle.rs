//! `windrow shuffle`: from flags to a repartitioning, from its records to a folder of files.

use crate::args::Shuffle;
use crate::common::{Output, input, keys, memory, report_bad, side, until_signal};
use crate::lines::Lines;
use arrow_array::RecordBatch;
use windrow::query::{Carry, Parts};
use windrow::sink::{Manifest, PartFiles, PartFormat};
use windrow::{Error, Result};

/// The memory limit where nothing is known of the system's memory.
const MEMORY: usize = 2 << 30;

/// The files as the engine sees them.
struct Files(PartFiles);

impl Parts for Files {
    fn write(&self, part: u32, rows: &RecordBatch) -> Result<()> {
        self.0.write(part, rows)
    }

    fn end(&self, part: u32) -> Result<()> {
        self.0.end(part)
    }

    fn open_bytes(&self) -> usize {
        self.0.open_bytes()
    }
}

/// Runs the command.
pub fn run(args: Shuffle) -> Result<()> {
    let common = &args.common;
    let Some(folder) = &common.output else {
        return Err(Error::usage("name the folder that the files shall appear in with --output"));
    };
    let output = Output::folder(common);
    let format: PartFormat = common.output_format.as_deref().unwrap_or("parquet").parse()?;
    let carry = match format {
        PartFormat::Csv => Carry::Verbatim,
        PartFormat::Ndjson => Carry::Records,
        _ => Carry::Typed,
    };
    let key = keys(&args.key)?;
    let memory = memory(common).unwrap_or(MEMORY);
    let bad_lines = common.bad_lines.as_deref().map(|path| side(common, path, Lines::create)).transpose()?;
    let query = key.iter().fold(input(common, bad_lines.as_ref())?, |query, key| query.key(key));
    let mut records = until_signal(common, query).memory(memory).repartition(args.partitions, carry)?;
    output.say(records.notes());
    // A quarter of the memory is for the files; what is not enough for all at once is shared by a few.
    let share = (memory / 8 / args.partitions as usize).max((memory / 64).min(1 << 20));
    let whole = records.whole_records();
    let files = Files(PartFiles::create(folder, format, &records.schema(), whole, args.partitions, share)?);
    let meter = output.meter(records.progress());
    records.run(&files)?;
    let summary = files.0.finish(&Manifest { key })?;
    drop(meter);
    bad_lines.iter().try_for_each(Lines::finish)?;
    let statistics = records.statistics();
    report_bad(common, &statistics, records.bad_records());
    debug_assert_eq!(summary.rows, statistics.rows_out);
    output.statistics(&statistics, None, records.threads())
}
