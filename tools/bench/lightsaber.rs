//! LightSaber's queries through the library: the program `bench_library` runs them and checks their rows; this keeps what
//! it says as rows of the record.

use crate::compare::Bench;
use crate::record::Row;
use crate::runners::said;
use crate::{Failure, Options, Outcome, Tools, measure};
use std::process::Command;

/// Their names, as the program takes them.
pub const QUERIES: [&str; 6] = ["CM1", "CM2", "SG1", "SG2", "LRB1", "ME1"];

/// Measures all of them in turns. The column `x` holds the number of tuples.
pub fn run(tools: &Tools, options: &Options) -> Result<Outcome, Failure> {
    let Some(folder) = &options.lightsaber else {
        println!("skipped: LightSaber's queries need the data files of its applications, --lightsaber DIR");
        return Ok(Outcome::default());
    };
    let data = options.data(tools)?;
    let mut bench = Bench::start(tools, options, &data)?;
    for rep in 0..options.reps {
        for query in QUERIES {
            let (_, spill) = bench.clean()?;
            let mut command = Command::new(&tools.typed);
            command.args(["lightsaber", query, "--threads", &options.threads.to_string()]);
            command.args(["--scale", &options.scale.to_string()]).arg(folder);
            let cost = measure::run(&mut command, options.timeout, &spill);
            let said = said(&cost.stdout, &cost.stderr);
            let verdict = match &cost.failed {
                Some(failed) => format!("failed: {failed}"),
                None => said["verdict"].as_str().unwrap_or("it said nothing").to_owned(),
            };
            let row = Row {
                section: "library".into(),
                x: said["tuples"].to_string(),
                workload: query.into(),
                scale: options.scale.to_string(),
                runner: "windrow".into(),
                variant: "library".into(),
                class: "windrow".into(),
                sink: "dropped".into(),
                rep,
                rows: said["rows"].as_u64().unwrap_or(0),
                verdict,
                ..Row::default()
            };
            bench.add(row, &cost, &said)?;
        }
    }
    Ok(std::mem::take(&mut bench.outcome))
}
