//! What a problem must look like before it is solved.

use super::problem::{Problem, Reserve, Session, Site};

/// Why a problem cannot be solved as it stands.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemError {
    /// A number is not finite or outside its range.
    #[error("{what} is {value}, expected {expected}")]
    Number {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// A session breaks its own rules.
    #[error("session {session}: {what} is {value}, expected {expected}")]
    Session {
        /// Index of the session.
        session: usize,
        /// Which number.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// Something reaches outside the grid.
    #[error("{what} {index} reaches step {step} of a grid of {steps} steps")]
    OffGrid {
        /// What reaches.
        what: &'static str,
        /// Its index.
        index: usize,
        /// How far.
        step: usize,
        /// Length of the grid.
        steps: usize,
    },
    /// A session names a site that is not there.
    #[error("session {session} is at site {site}, but there are only {sites}")]
    NoSuchSite {
        /// Index of the session.
        session: usize,
        /// The site it names.
        site: usize,
        /// How many there are.
        sites: usize,
    },
    /// Two blocks of one product share a step.
    #[error("blocks of reserve product {product} overlap at step {step}")]
    BlocksOverlap {
        /// Index of the product.
        product: usize,
        /// First shared step.
        step: usize,
    },
}

impl Problem {
    /// Checks every number and index.
    ///
    /// # Errors
    /// [`ProblemError`] names the first thing that is wrong.
    pub fn check(&self) -> Result<(), ProblemError> {
        let steps = self.import_price.len();
        positive("step_hours", self.step_hours)?;
        for (what, value) in [("wear", self.wear), ("shortfall", self.shortfall)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(ProblemError::Number {
                    what,
                    value,
                    expected: "zero or more",
                });
            }
        }
        if self.export_price.len() != steps {
            return Err(ProblemError::OffGrid {
                what: "export price",
                index: 0,
                step: self.export_price.len(),
                steps,
            });
        }
        for value in self.import_price.iter().chain(&self.export_price) {
            finite("price", *value)?;
        }
        for (index, session) in self.sessions.iter().enumerate() {
            session.check(index)?;
            if session.steps().end > steps {
                return Err(ProblemError::OffGrid {
                    what: "session",
                    index,
                    step: session.steps().end,
                    steps,
                });
            }
            if let Some(site) = session.site.filter(|site| *site >= self.sites.len()) {
                return Err(ProblemError::NoSuchSite {
                    session: index,
                    site,
                    sites: self.sites.len(),
                });
            }
        }
        self.sites
            .iter()
            .enumerate()
            .try_for_each(|(index, site)| site.check(index, steps))?;
        self.reserves
            .iter()
            .enumerate()
            .try_for_each(|(index, reserve)| reserve.check(index, steps))
    }
}

impl Session {
    fn check(&self, session: usize) -> Result<(), ProblemError> {
        let refuse = |what, value, expected| {
            Err(ProblemError::Session {
                session,
                what,
                value,
                expected,
            })
        };
        // Written so that a value which is not a number fails too.
        for (what, value) in [
            ("charge power", self.charge_kw),
            ("discharge power", self.discharge_kw),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return refuse(what, value, "zero or more");
            }
        }
        for (what, value) in [
            ("charge efficiency", self.charge_efficiency),
            ("discharge efficiency", self.discharge_efficiency),
        ] {
            if !(value > 0.0 && value <= 1.0) {
                return refuse(what, value, "above 0, at most 1");
            }
        }
        if !(self.capacity >= 0.0 && self.capacity.is_finite()) {
            return refuse("capacity", self.capacity, "zero or more");
        }
        if !(self.arrival >= 0.0 && self.arrival <= self.capacity) {
            return refuse(
                "arrival energy",
                self.arrival,
                "between zero and the capacity",
            );
        }
        if !(self.floor >= 0.0 && self.floor <= self.arrival) {
            return refuse("floor", self.floor, "between zero and the arrival energy");
        }
        if !(self.goal >= 0.0 && self.goal.is_finite()) {
            return refuse("goal", self.goal, "zero or more");
        }
        match self
            .share
            .iter()
            .find(|share| !(**share >= 0.0 && **share <= 1.0))
        {
            Some(share) => refuse("share of a step", *share, "between 0 and 1"),
            None => Ok(()),
        }
    }
}

impl Site {
    fn check(&self, index: usize, steps: usize) -> Result<(), ProblemError> {
        for (what, value) in [
            ("import limit", self.import_kw),
            ("export limit", self.export_kw),
        ] {
            if value.is_nan() {
                return Err(ProblemError::Number {
                    what,
                    value,
                    expected: "a number or infinity",
                });
            }
        }
        self.base_kw
            .iter()
            .try_for_each(|value| finite("base load", *value))?;
        if self.base_kw.is_empty() || self.base_kw.len() == steps {
            Ok(())
        } else {
            Err(ProblemError::OffGrid {
                what: "base load of site",
                index,
                step: self.base_kw.len(),
                steps,
            })
        }
    }
}

impl Reserve {
    fn check(&self, product: usize, steps: usize) -> Result<(), ProblemError> {
        positive("power factor", self.power_factor)?;
        positive("endurance_hours", self.endurance_hours)?;
        let mut taken = vec![false; steps];
        for (index, block) in self.blocks.iter().enumerate() {
            finite("capacity price", block.price)?;
            if block.steps.end > steps {
                return Err(ProblemError::OffGrid {
                    what: "reserve block",
                    index,
                    step: block.steps.end,
                    steps,
                });
            }
            for step in block.steps.clone() {
                if std::mem::replace(&mut taken[step], true) {
                    return Err(ProblemError::BlocksOverlap { product, step });
                }
            }
        }
        Ok(())
    }
}

fn positive(what: &'static str, value: f64) -> Result<(), ProblemError> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(ProblemError::Number {
            what,
            value,
            expected: "above zero",
        })
    }
}

fn finite(what: &'static str, value: f64) -> Result<(), ProblemError> {
    if value.is_finite() {
        Ok(())
    } else {
        Err(ProblemError::Number {
            what,
            value,
            expected: "a finite number",
        })
    }
}
