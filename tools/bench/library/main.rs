//! `bench_library`: queries through windrow's library, for the harness beside it.
//!
//! `bench_library typed FILE` runs workload H1 through the typed face, from its Parquet file;
//! `bench_library lightsaber QUERY DIR` one of LightSaber's application queries over record batches in memory.
//! Both print a line `RESULT` with seconds, rows and whether the rows are right.

#[allow(dead_code)]
#[path = "../../generate/expect.rs"]
mod expect;
mod lightsaber;
#[allow(dead_code)]
#[path = "../../generate/random.rs"]
mod random;
mod replay;
mod typed;

/// The allocator of the binary.
#[cfg(feature = "cli")]
#[global_allocator]
static ALLOCATOR: jemallocator::Jemalloc = jemallocator::Jemalloc;

/// What stops the program: a sentence.
type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: bench_library typed [--threads N] FILE.parquet
       bench_library lightsaber QUERY [--threads N] [--scale X] DIR
  QUERY is one of CM1 CM2 SG1 SG2 LRB1 ME1; DIR holds the data files of LightSaber's applications, also as .gz";

fn run(arguments: &[String]) -> Result<String, Failure> {
    let (mut words, mut threads, mut scale) = (Vec::new(), 0, 1.0);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--threads" => threads = value()?.parse()?,
            "--scale" => scale = value()?.parse()?,
            word => words.push(word),
        }
    }
    match words[..] {
        ["typed", file] => typed::run(file, threads),
        ["lightsaber", query, folder] => replay::run(query, folder.as_ref(), threads, scale),
        _ => Err(USAGE.into()),
    }
}

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(result) => {
            println!("RESULT {result}");
            0.into()
        }
        Err(failure) => {
            eprintln!("bench_library: {failure}");
            2.into()
        }
    }
}
