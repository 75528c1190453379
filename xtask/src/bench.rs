//! The bench of the reference problem at scale: one synthesised scenario, the structured path beside HiGHS.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::steps::{cargo, run};
use crate::{Places, install};

/// The day of the bench: ninety-six quarter hours, no clock change.
const DAY: &str = "2024-03-12";

/// Vehicles above which HiGHS takes hours.
const MOST_FOR_HIGHS: u32 = 2000;

/// Proven gaps asked for, in turn; only the first of fleets too large for HiGHS.
const GAPS: [&str; 2] = ["1e-3", "1e-4"];

/// How many times the seconds ours took to the first gap HiGHS may use the processor: what it is meant to be beaten by.
const MOST_TIMES: f64 = 40.0;

/// How often HiGHS is looked after.
const LOOK: Duration = Duration::from_millis(200);

/// Clock ticks of `/proc` per second, on every Linux.
const TICKS: f64 = 100.0;

/// Runs `bench scale` with the words after it: `--vehicles N` as often as wanted, 1000 without.
pub(crate) fn scale(places: &Places, words: &[&str]) -> anyhow::Result<()> {
    let sizes = sizes(words)?;
    run(cargo(
        places,
        &[
            "build",
            "--locked",
            "--release",
            "--package",
            "portfolio",
            "--example",
            "scale",
        ],
    ))?;
    let python = install::python(places)?;
    for vehicles in sizes {
        let folder = places.target.join(format!("xtask/scale-{vehicles}"));
        synthesise(places, vehicles, &folder)?;
        let compared = vehicles <= MOST_FOR_HIGHS;
        let begun = Instant::now();
        let theirs = compared
            .then(|| {
                pinned("1", &python)
                    .arg(places.root.join("xtask/highs_scale.py"))
                    .arg(folder.join("scenario.toml"))
                    .spawn()
                    .context("cannot start HiGHS's interior point")
            })
            .transpose()?;
        // HiGHS has one core; beside it ours takes the other, alone it takes both.
        let ours = places.target.join("release/examples/scale");
        let mut took = Vec::new();
        let gaps = if compared { &GAPS[..] } else { &GAPS[..1] };
        for &gap in gaps {
            let started = Instant::now();
            let mut ours = if compared {
                pinned("0", &ours)
            } else {
                Command::new(&ours)
            };
            let threads = if compared { "1" } else { "2" };
            ours.arg(&folder).args([threads, gap]);
            let ended = run(ours);
            took.push(started.elapsed());
            if let Err(error) = ended {
                stop(theirs)?;
                return Err(error);
            }
        }
        if let Some(theirs) = theirs {
            await_highs(theirs, begun, took[0])?;
        }
    }
    Ok(())
}

/// A program on one core, where the system can hold it there.
fn pinned(core: &str, program: &Path) -> Command {
    let taskset = Path::new("/usr/bin/taskset");
    if taskset.exists() {
        let mut command = Command::new(taskset);
        command.args(["-c", core]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// Waits for HiGHS until it has used [`MOST_TIMES`] what ours took; says so where it has not ended by then.
fn await_highs(mut theirs: Child, begun: Instant, ours: Duration) -> anyhow::Result<()> {
    loop {
        let ended = theirs.try_wait().context("lost HiGHS's interior point")?;
        if let Some(status) = ended {
            if !status.success() {
                bail!("HiGHS's interior point ended with {status}");
            }
            return Ok(());
        }
        let waited = begun.elapsed().as_secs_f64();
        // Where others use the machine too, what HiGHS used says more than how long it was waited for.
        let used = processor_seconds(theirs.id()).unwrap_or(waited);
        if used >= MOST_TIMES * ours.as_secs_f64() {
            println!(
                "HiGHS's interior point has no end after {used:.1} processor seconds ({waited:.1} s): stopped at {MOST_TIMES} times \
                 what ours took to a gap of {}",
                GAPS[0],
            );
            return stop(Some(theirs));
        }
        thread::sleep(LOOK);
    }
}

fn stop(child: Option<Child>) -> anyhow::Result<()> {
    if let Some(mut child) = child {
        child.kill().context("cannot stop HiGHS")?;
        child.wait().context("lost HiGHS's interior point")?;
    }
    Ok(())
}

/// What a process has used so far; `None` where the system does not tell.
fn processor_seconds(process: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let ticks = |at: usize| rest.split_whitespace().nth(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

fn sizes(words: &[&str]) -> anyhow::Result<Vec<u32>> {
    let mut sizes = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if *word != "--vehicles" {
            bail!("{word:?} is unknown, expected --vehicles N");
        }
        let count = rest.next().context("--vehicles needs a number")?;
        sizes.push(
            count
                .parse()
                .with_context(|| format!("--vehicles {count:?}: expected a whole number"))?,
        );
    }
    if sizes.is_empty() {
        sizes.push(1000);
    }
    Ok(sizes)
}

fn synthesise(places: &Places, vehicles: u32, folder: &Path) -> anyhow::Result<()> {
    // As the tests build it: a build of one package would choose other features of shared crates and take minutes.
    run(cargo(
        places,
        &[
            "build",
            "--locked",
            "--quiet",
            "--workspace",
            "--bin",
            "shoal",
        ],
    ))?;
    let mut synth = Command::new(places.target.join("debug/shoal"));
    synth.arg("synth");
    synth.arg(folder).args([
        "--vehicles",
        &vehicles.to_string(),
        "--day",
        DAY,
        "--area",
        "DE",
        "--seed",
        "1",
        "--buses",
        "0",
    ]);
    run(synth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_used_is_read_where_the_system_tells() {
        let own = processor_seconds(std::process::id());
        assert_eq!(own.is_some(), Path::new("/proc/self/stat").exists());
        assert!(own.is_none_or(|seconds| seconds >= 0.0));
        assert_eq!(processor_seconds(u32::MAX), None);
    }

    #[test]
    fn a_solver_that_does_not_end_is_stopped() {
        let sleeping = || Command::new("sleep").arg("600").spawn().unwrap();
        // No time at all: whatever it used by now is more.
        let begun = Instant::now();
        let child = sleeping();
        let id = child.id();
        await_highs(child, begun, Duration::ZERO).unwrap();
        assert_eq!(processor_seconds(id), None, "still there");
    }

    #[test]
    fn sizes_are_read_and_a_thousand_is_the_rule() {
        assert_eq!(sizes(&[]).unwrap(), [1000]);
        assert_eq!(
            sizes(&["--vehicles", "10", "--vehicles", "20"]).unwrap(),
            [10, 20]
        );
        assert!(sizes(&["--vehicles"]).is_err());
        assert!(
            sizes(&["--vehicles", "many"])
                .unwrap_err()
                .to_string()
                .contains("many")
        );
        assert!(sizes(&["--buses", "1"]).is_err());
    }
}
