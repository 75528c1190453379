//! The bench of the reference problem at scale: one synthesised scenario, the structured path beside HiGHS.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::steps::{cargo, run};
use crate::{Places, install};

/// The day of the bench: ninety-six quarter hours, no clock change.
const DAY: &str = "2024-03-12";

/// Vehicles above which HiGHS takes hours.
const MOST_FOR_HIGHS: u32 = 2000;

/// Proven gaps asked for, in turn.
const GAPS: [&str; 2] = ["1e-3", "1e-4"];

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
        let theirs = compared
            .then(|| {
                Command::new(&python)
                    .arg(places.root.join("xtask/highs_scale.py"))
                    .arg(folder.join("scenario.toml"))
                    .spawn()
                    .context("cannot start HiGHS's interior point")
            })
            .transpose()?;
        // HiGHS has one core; beside it ours takes the other, alone it takes both.
        let threads = if compared { "1" } else { "2" };
        let ours = GAPS.iter().try_for_each(|gap| {
            let mut ours = Command::new(places.target.join("release/examples/scale"));
            ours.arg(&folder).args([threads, *gap]);
            run(ours)
        });
        if let Some(mut theirs) = theirs {
            let status = theirs.wait().context("lost HiGHS's interior point")?;
            if !status.success() {
                bail!("HiGHS's interior point ended with {status}");
            }
        }
        ours?;
    }
    Ok(())
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
