//! Noise that is a function of time: a sum of sine waves whose phases come from the seed.

use std::f64::consts::TAU;

use crate::dice::Dice;

/// Waves of random phase with periods spread between a shortest and a longest: smooth, mean zero, about normal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Waves(Vec<Wave>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Wave {
    amplitude: f64,
    frequency: f64,
    phase: f64,
}

impl Waves {
    /// `count` waves with periods from `shortest` to `longest` (any unit of time) and together a standard deviation of
    /// `deviation`.
    pub(crate) fn new(
        dice: &mut Dice,
        count: u32,
        shortest: f64,
        longest: f64,
        deviation: f64,
    ) -> Self {
        let ratio = longest / shortest;
        let amplitude = deviation * (2.0 / f64::from(count)).sqrt();
        Self(
            (0..count)
                .map(|i| {
                    let place = (f64::from(i) + dice.between(0.0, 1.0)) / f64::from(count);
                    let period = shortest * ratio.powf(place);
                    Wave {
                        amplitude,
                        frequency: TAU / period,
                        phase: dice.between(0.0, TAU),
                    }
                })
                .collect(),
        )
    }

    /// Value at `time`, in the unit of the periods.
    pub(crate) fn at(&self, time: f64) -> f64 {
        self.0
            .iter()
            .map(|w| w.amplitude * (w.frequency * time + w.phase).sin())
            .sum()
    }
}
