//! How rare a shortfall is aimed at, corrected by the shortfalls there were.
//!
//! Past days tell how much may be held, but not whether it then is: vehicles come that were not expected, prices move
//! them, holidays look like working days. So the chance aimed at moves with each block delivered, as adaptive conformal
//! inference moves its level (Gibbs and Candes 2021, eq. 2): with `alpha` the chance asked for and `short` 0 or 1,
//!
//! ```text
//! aim <- aim + RATE * (alpha - short)
//! ```
//!
//! Whatever the days are like, after n blocks `short` was 1 in no more than `alpha*n + (first aim + RATE)/RATE` of them:
//! the sum telescopes, and at an aim of zero or less nothing is offered. The first aim is a careful one, so that this
//! bound is near `alpha*n` and trust is earned.

/// How far one block moves the aim.
const RATE: f64 = 0.02;

/// First aim as a share of the chance asked for.
const CAREFUL: f64 = 0.2;

/// Where blocks in which nothing can be offered lead the aim back to, as a share of the chance asked for: by then a few
/// poor days among the past ones no longer forbid every offer.
const PATIENT: f64 = 0.5;

/// The chance of a shortfall that volumes of one product are aimed at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Aim {
    /// Chance asked for: `alpha`.
    asked: f64,
    /// Chance aimed at; not more than one, and below zero after too many shortfalls.
    now: f64,
}

impl Aim {
    /// Before any block.
    pub(crate) fn first(asked: f64) -> Self {
        Self {
            asked,
            now: CAREFUL * asked,
        }
    }

    /// The chance to aim at, 0 to 1.
    pub(crate) fn chance(self) -> f64 {
        self.now.clamp(0.0, 1.0)
    }

    /// Takes in a block sold and delivered.
    pub(crate) fn delivered(&mut self, short: bool) {
        self.now += RATE * (self.asked - f64::from(u8::from(short)));
        self.now = self.now.min(1.0);
    }

    /// Takes in a block in which nothing could be offered at this aim: nothing promised, nothing missing.
    pub(crate) fn withheld(&mut self) {
        let most = PATIENT * self.asked;
        if self.now < most {
            self.now = (self.now + RATE * self.asked).min(most);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_comes_the_shortfalls_stay_near_the_share_asked_for(
            asked in 0.02_f64..0.5, outcomes in prop::collection::vec(prop::bool::weighted(0.3), 1..400),
        ) {
            let mut aim = Aim::first(asked);
            let (mut blocks, mut short) = (0.0, 0.0);
            for missing in outcomes {
                blocks += 1.0;
                if aim.chance() <= 0.0 {
                    aim.withheld();
                } else {
                    aim.delivered(missing);
                    short += f64::from(u8::from(missing));
                }
                let most = asked * blocks + (CAREFUL * asked + RATE) / RATE;
                prop_assert!(short <= most + 1e-9, "{short} of {blocks}");
            }
        }
    }

    #[test]
    fn a_forecast_twice_too_sure_is_held_at_the_share_asked_for() {
        let mut aim = Aim::first(0.1);
        let mut short = 0;
        // Low-discrepancy draws: the golden ratio's multiples.
        for n in 0..1000 {
            let day = (f64::from(n) * 0.618_033_988_75).fract();
            let missing = day < 2.0 * aim.chance();
            short += usize::from(missing);
            aim.delivered(missing);
        }
        assert!((85..=105).contains(&short), "{short}");
        assert!((aim.chance() - 0.05).abs() < 0.03, "{aim:?}");
    }

    #[test]
    fn nothing_offered_leads_back_to_half_the_chance_asked_for_and_no_further() {
        let mut aim = Aim::first(0.1);
        for _ in 0..10 {
            aim.delivered(true);
        }
        assert!(aim.chance() <= 0.0);
        for _ in 0..1000 {
            aim.withheld();
        }
        assert!((aim.chance() - 0.05).abs() < 1e-9);
    }
}
