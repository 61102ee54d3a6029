//! The command line: flags and messages over the library's public API; no engine logic.
//!
//! Exit status: 0 done, 1 the run failed, 2 wrong usage.

mod allocator;
mod args;
mod common;
mod lines;
mod parse;
mod progress;
mod replay;
mod shuffle;
mod stats;
mod survive;

use clap::{CommandFactory, Parser};
use std::io::Write;
use std::process::ExitCode;
use windrow::ErrorKind;

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    let supervised = matches!(&arguments.command, args::Command::Replay(replay) if replay.supervised);
    let outcome = match arguments.command {
        args::Command::Replay(replay) => replay::run(*replay),
        args::Command::Shuffle(shuffle) => shuffle::run(*shuffle),
        args::Command::Parse(parse) => parse::run(*parse),
        args::Command::Completions { shell } => {
            let mut command = args::Arguments::command();
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command, "windrow", &mut text);
            print(&text)
        }
        args::Command::Man => {
            let mut text = Vec::new();
            let written = manual(&mut text);
            written
                .map_err(|e| windrow::Error::output("the manual cannot be made").because(e))
                .and_then(|()| print(&text))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(format_args!("windrow: {}\n", progress::printable(&error.to_string())));
            ExitCode::from(match error.kind() {
                ErrorKind::Usage => 2,
                ErrorKind::Data if supervised => survive::HOPELESS,
                _ => 1,
            })
        }
    }
}

/// The manual: the page of the program, then those of its commands.
fn manual(out: &mut Vec<u8>) -> std::io::Result<()> {
    let command = args::Arguments::command();
    clap_mangen::Man::new(command.clone()).render(out)?;
    for command in command.get_subcommands().filter(|c| c.get_name() != "help") {
        let name = format!("windrow {}", command.get_name());
        let man = clap_mangen::Man::new(command.clone().display_name(name.clone()).bin_name(name));
        man.render_name_section(out)?;
        man.render_synopsis_section(out)?;
        man.render_description_section(out)?;
        man.render_options_section(out)?;
    }
    Ok(())
}

/// Writes to standard output; a reader that has gone is no failure.
fn print(text: &[u8]) -> windrow::Result<()> {
    match std::io::stdout().write_all(text) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(windrow::Error::output("standard output").because(e))
        }
        _ => Ok(()),
    }
}
