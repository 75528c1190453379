#![doc = include_str!("../README.md")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal"
)]

mod bench;
mod install;
mod scenario;
mod steps;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use steps::Step;

const USAGE: &str =
    "usage: cargo xtask test [--only STEP]...   STEP: fmt, clippy, test, chart, browser, notebook
       cargo xtask scenario DIR
       cargo xtask bench scale [--vehicles N]...";

/// Where things are.
#[derive(Debug)]
struct Places {
    /// The workspace.
    root: PathBuf,
    /// Cargo's target folder.
    target: PathBuf,
}

impl Places {
    fn find() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let root = root.canonicalize().unwrap_or(root);
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let target = root.join(target);
        Self { root, target }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["test", rest @ ..] => test(&chosen(rest)?),
        ["scenario", folder] => {
            let file = scenario::write(Path::new(folder))?;
            println!("{}", file.display());
            Ok(())
        }
        ["bench", "scale", rest @ ..] => bench::scale(&Places::find(), rest),
        _ => bail!("{USAGE}"),
    }
}

/// The steps asked for; all without a choice.
fn chosen(words: &[&str]) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if *word != "--only" {
            bail!("{word:?} is unknown\n{USAGE}");
        }
        let name = rest
            .next()
            .with_context(|| format!("--only needs a step\n{USAGE}"))?;
        let step =
            Step::named(name).with_context(|| format!("step {name:?} is unknown\n{USAGE}"))?;
        steps.push(step);
    }
    if steps.is_empty() {
        steps.extend(Step::ALL);
    }
    Ok(steps)
}

/// Runs the steps in order; the first that fails ends it.
fn test(steps: &[Step]) -> anyhow::Result<()> {
    let places = Places::find();
    let begun = Instant::now();
    let mut done = Vec::new();
    for step in steps {
        eprintln!("\n==> {}: {}", step.name(), step.says());
        let started = Instant::now();
        step.run(&places)
            .with_context(|| format!("step {}", step.name()))?;
        done.push((step.name(), started.elapsed()));
    }
    for (name, took) in &done {
        println!("{name:>10}  {}", minutes(*took));
    }
    println!(
        "xtask test: {} steps passed in {}",
        done.len(),
        minutes(begun.elapsed())
    );
    Ok(())
}

fn minutes(took: Duration) -> String {
    let seconds = took.as_secs();
    format!("{} min {:02} s", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_chosen_by_name_and_all_run_without_a_choice() {
        assert_eq!(chosen(&[]).unwrap(), Step::ALL);
        let some = chosen(&["--only", "fmt", "--only", "browser"]).unwrap();
        assert_eq!(some, [Step::Fmt, Step::Browser]);
        assert!(chosen(&["--only"]).is_err());
        assert!(
            chosen(&["--only", "paint"])
                .unwrap_err()
                .to_string()
                .contains("paint")
        );
        assert!(chosen(&["--fast"]).is_err());
    }
}
