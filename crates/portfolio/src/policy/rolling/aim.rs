//! How rare a shortfall is aimed at, corrected by the shortfalls there were, and the volume that is so rare.
//!
//! Past days tell how much may be held: of n days like the one to come and that day itself each is as likely as any other
//! to be the poorest, so the day falls below the r-th poorest with a chance of r/(n+1). This is split conformal prediction
//! by product and block of the day (Vovk, Gammerman and Shafer 2005, ch. 4), and learns from every day, sold or not. It does not tell of days unlike all
//! before, nor of what vehicles do instead of holding. So the chance aimed at moves with each block delivered, as adaptive conformal
//! inference moves its level (Gibbs and Candes 2021, eq. 2): with `alpha` the chance asked for and `short` 0 or 1,
//!
//! ```text
//! aim <- min(alpha, aim + RATE * (alpha - short))
//! ```
//!
//! The aim is never above what is asked: where forecasts are right it stays near `alpha`, and credit of quiet times is not
//! spent on shortfalls later. Whatever the days are like, after n blocks `short` was 1 in no more than
//! `alpha*n + (first aim + RATE - least aim)/RATE` of them: the sum telescopes, and at the least aim the volume is too
//! small to be offered. The first aim is a careful one, so that this bound is near `alpha*n` and trust is earned.

/// How far one block moves the aim.
const RATE: f64 = 0.02;

/// First aim as a share of the chance asked for.
const CAREFUL: f64 = 0.2;

/// Where blocks in which only caution forbids an offer lead the aim back to, as a share of the chance asked for: by then
/// a poor day among the past ones no longer forbids every offer.
const PATIENT: f64 = 0.5;

/// The chance of a shortfall that volumes of one product are aimed at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Aim {
    /// Chance asked for: `alpha`.
    asked: f64,
    /// Chance aimed at; not more than what is asked, and below zero after too many shortfalls.
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

    /// The most that may be offered for a shortfall as rare as is aimed at, where days like the one to come could hold
    /// `sorted`, rising.
    pub(crate) fn volume(self, sorted: &[f64]) -> f64 {
        as_rare(self.now, sorted)
    }

    /// The same were it aimed at what is asked.
    pub(crate) fn volume_asked(self, sorted: &[f64]) -> f64 {
        as_rare(self.asked, sorted)
    }

    /// Takes in a block sold and delivered.
    pub(crate) fn delivered(&mut self, short: bool) {
        self.now += RATE * (self.asked - f64::from(u8::from(short)));
        self.now = self.now.min(self.asked);
    }

    /// Takes in a block in which nothing could be offered at this aim, and something at what is asked: nothing promised,
    /// nothing missing.
    pub(crate) fn withheld(&mut self) {
        let most = PATIENT * self.asked;
        if self.now < most {
            self.now = (self.now + RATE * self.asked).min(most);
        }
    }
}

/// The volume that a day falls below with a chance of `chance`, where like days held `sorted`, rising: of n days the
/// `chance*(n+1)`-th poorest, between two of them in proportion. Past days cannot tell of a chance below that of the
/// poorest; then it is less than the poorest, by a factor of e for each rank: as long as something is offered, what
/// becomes of it tells how much to trust them.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a handful of days"
)]
fn as_rare(chance: f64, sorted: &[f64]) -> f64 {
    let rank = chance * (sorted.len() + 1) as f64;
    if rank < 1.0 {
        return sorted
            .first()
            .map_or(0.0, |least| least * (rank - 1.0).exp());
    }
    let whole = (rank + 1e-9).floor() as usize;
    let ranked = |r: usize| sorted.get(r - 1).or(sorted.last()).copied().unwrap_or(0.0);
    let part = (rank - whole as f64).max(0.0);
    ranked(whole) + part * (ranked(whole + 1) - ranked(whole))
}

#[cfg(test)]
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of days are far below 2^53"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Least volume offered and what the poorest of the days could hold.
    const LEAST: f64 = 1.0;
    const POOREST: f64 = 300.0;
    const LIKE: [f64; 9] = [
        POOREST, 310.0, 320.0, 330.0, 340.0, 350.0, 360.0, 370.0, 380.0,
    ];

    proptest! {
        #[test]
        fn whatever_comes_the_shortfalls_stay_near_the_share_asked_for(
            asked in 0.02_f64..0.5, outcomes in prop::collection::vec(prop::bool::weighted(0.3), 1..400),
        ) {
            let mut aim = Aim::first(asked);
            // Where a volume of e^-k of the poorest day is the least, k ranks below the first.
            let least_aim = (1.0 - (POOREST / LEAST).ln()) / (LIKE.len() + 1) as f64;
            let (mut blocks, mut short) = (0.0, 0.0);
            for missing in outcomes {
                blocks += 1.0;
                if aim.volume(&LIKE) < LEAST {
                    aim.withheld();
                } else {
                    aim.delivered(missing);
                    short += f64::from(u8::from(missing));
                }
                let most = asked * blocks + (CAREFUL * asked + RATE - least_aim) / RATE;
                prop_assert!(short <= most + 1e-9, "{short} of {blocks}");
                prop_assert!(aim.volume(&LIKE) <= aim.volume_asked(&LIKE));
            }
        }

        #[test]
        fn a_rarer_shortfall_is_no_greater_a_volume_and_is_never_nothing_where_every_day_had_something(
            mut days in prop::collection::vec(1.0_f64..400.0, 1..40), chance in -0.2_f64..1.0, less in 0.0_f64..0.2,
        ) {
            days.sort_by(f64::total_cmp);
            let volume = as_rare(chance, &days);
            prop_assert!(as_rare(chance - less, &days) <= volume + 1e-9);
            prop_assert!(as_rare(chance - less, &days) > 0.0);
            prop_assert!(volume <= days[days.len() - 1]);
        }
    }

    #[test]
    fn one_more_day_like_the_others_falls_short_as_often_as_aimed_at() {
        let mut state = 1_u64;
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            1.0 + f64::from(u32::try_from(state >> 40).unwrap()) / f64::from(1_u32 << 24)
        };
        let days: Vec<f64> = (0..4000).map(|_| draw()).collect();
        for chance in [0.05, 0.1, 0.2] {
            let short = |window: &[f64]| {
                let mut like = window[..19].to_vec();
                like.sort_by(f64::total_cmp);
                window[19] < as_rare(chance, &like)
            };
            let windows = days.windows(20);
            let share = windows.clone().filter(|w| short(w)).count() as f64 / windows.len() as f64;
            assert!((share - chance).abs() < 0.02, "{share} of {chance}");
        }
    }

    #[test]
    fn a_forecast_twice_too_sure_is_held_at_the_share_asked_for() {
        let mut aim = Aim::first(0.1);
        let mut short = 0;
        for n in 0..1000 {
            // Low-discrepancy draws: the golden ratio's multiples.
            let day = (f64::from(n) * 0.618_033_988_75).fract();
            let missing = day < 2.0 * aim.now;
            short += usize::from(missing);
            aim.delivered(missing);
        }
        assert!((85..=105).contains(&short), "{short}");
        assert!((aim.now - 0.05).abs() < 0.03, "{aim:?}");
    }

    #[test]
    fn where_nothing_is_short_what_is_asked_is_offered_and_no_more() {
        let mut aim = Aim::first(0.1);
        for _ in 0..1000 {
            aim.delivered(false);
        }
        assert!(
            (aim.volume(&LIKE) - POOREST).abs() < 1e-9,
            "the poorest of ten"
        );
        assert!((aim.now - 0.1).abs() < 1e-12);
    }

    #[test]
    fn nothing_offered_leads_back_to_half_the_chance_asked_for_and_no_further() {
        let mut aim = Aim::first(0.1);
        for _ in 0..10 {
            aim.delivered(true);
        }
        assert!(aim.now <= 0.0);
        for _ in 0..1000 {
            aim.withheld();
        }
        assert!((aim.now - 0.05).abs() < 1e-9);
    }
}
