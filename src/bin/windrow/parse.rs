//! `windrow parse`: the records of the input as they were parsed.

use crate::args::Parse;
use crate::common::{Output, input, report_bad, side, until_signal};
use crate::lines::Lines;
use windrow::sink::OutputFormat;
use windrow::{Error, Result};

/// Runs the command.
pub fn run(args: Parse) -> Result<()> {
    let output = Output::new(&args.common, OutputFormat::Ndjson)?;
    let bad_lines = args.common.bad_lines.as_deref().map(|path| side(&args.common, path, Lines::create)).transpose()?;
    let fields: Vec<&str> = args.fields.iter().flat_map(|list| list.split(',')).map(str::trim).collect();
    if fields.contains(&"") {
        return Err(Error::usage("--fields: a field name is missing between the commas"));
    }
    let mut records = until_signal(&args.common, input(&args.common, bad_lines.as_ref())?).records(fields)?;
    output.say(records.notes());
    let (schema, progress) = (records.schema(), records.progress());
    let summary = output.write(&schema, progress, |take| records.for_each_block(take))?;
    bad_lines.iter().try_for_each(Lines::finish)?;
    report_bad(&args.common, &records.statistics(), records.bad_records());
    output.statistics(&records.statistics(), summary.checksum, records.threads())
}
