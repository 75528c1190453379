//! What a stacked problem must look like before it is solved.

use super::problem::{Block, Problem, Product, Vehicle};
use crate::reference::{self, Headroom, ProblemError};

/// Why a problem cannot be solved as it stands.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// Something it shares with the reference problem.
    #[error(transparent)]
    Reference(#[from] ProblemError),
    /// A number is not finite or outside its range.
    #[error("{what} of {name} is {value}, expected {expected}")]
    Number {
        /// Which number.
        what: &'static str,
        /// Whose.
        name: String,
        /// Its value.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// A list has the wrong length or an index points nowhere.
    #[error("{what} of {name} is {value}, expected {expected}")]
    Index {
        /// What is wrong.
        what: &'static str,
        /// Whose.
        name: String,
        /// Its value.
        value: usize,
        /// What was expected.
        expected: String,
    },
    /// A product asks for nothing, or twice for the same step.
    #[error("product {name}: {what}")]
    Product {
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
}

/// By how much a fixed power may exceed its charger's for rounding, kW.
const ROUNDING: f64 = 1e-6;

/// Where a number may lie.
#[derive(Clone, Copy)]
enum Range {
    Any,
    NotNegative,
    Positive,
    Share,
}

impl Problem {
    /// Checks every number and index.
    ///
    /// # Errors
    /// [`StackError`] names the first thing that is wrong.
    pub fn check(&self) -> Result<(), StackError> {
        self.as_reference().check()?;
        let steps = self.import_price.len();
        for value in [
            self.elastic.energy_per_kwh,
            self.elastic.site_per_kwh,
            self.elastic.area_per_kwh,
            self.elastic.award_per_kw_hour,
            self.elastic.dimming_per_kwh,
            self.elastic.reactive_per_kvarh,
        ] {
            number("price of giving way", "the problem", value, Range::Positive)?;
        }
        length(
            "carbon price",
            "the problem",
            self.carbon_price.len(),
            steps,
            true,
        )?;
        for value in &self.carbon_price {
            number("carbon price", "the problem", *value, Range::Any)?;
        }
        for (index, vehicle) in self.vehicles.iter().enumerate() {
            let name = format!("vehicle {index}");
            number("level kept", &name, vehicle.keep_kwh, Range::NotNegative)?;
            check_fixed(&name, vehicle)?;
            if let Some(kva) = vehicle.rating_kva {
                let active = vehicle.session.charge_kw.max(vehicle.session.discharge_kw);
                number("rating", &name, kva, Range::NotNegative)?;
                let room = kva - active + ROUNDING;
                number("rating less active power", &name, room, Range::NotNegative)?;
            }
        }
        self.check_places(steps)?;
        self.products
            .iter()
            .try_for_each(|product| check_product(product, steps))?;
        self.check_orders(steps)?;
        for group in &self.groups {
            for vehicle in &group.vehicles {
                index("vehicle", &group.name, *vehicle, self.vehicles.len())?;
            }
        }
        self.check_dimmings()?;
        self.check_reactive(steps)?;
        self.check_exclusive()
    }

    fn check_reactive(&self, steps: usize) -> Result<(), StackError> {
        for site in &self.sites {
            let name = &site.name;
            if let Some(refund) = &site.refund {
                number("refund", name, refund.per_mwh, Range::NotNegative)?;
                number(
                    "energy drawn per energy returned",
                    name,
                    refund.drawn_per_returned,
                    Range::Positive,
                )?;
                number("ledger", name, refund.ledger_kwh, Range::NotNegative)?;
            }
            let Some(reactive) = &site.reactive else {
                continue;
            };
            length(
                "reactive base load",
                name,
                reactive.base_kvar.len(),
                steps,
                true,
            )?;
            for kvar in &reactive.base_kvar {
                number("reactive base load", name, *kvar, Range::Any)?;
            }
            let kva = reactive.rating_kva.unwrap_or(0.0);
            number("rating", name, kva, Range::NotNegative)?;
            let (low, high) = (reactive.low_kvar, reactive.high_kvar);
            for kvar in low.iter().chain(&high) {
                number("asked reactive power", name, *kvar, Range::Any)?;
            }
            let width = high.zip(low).map_or(0.0, |(high, low)| high - low);
            number(
                "width of the asked reactive power",
                name,
                width,
                Range::NotNegative,
            )?;
            for charge in &reactive.charges {
                number("reactive charge", name, charge.per_kvar, Range::NotNegative)?;
                number(
                    "free reactive power",
                    name,
                    charge.free_kvar,
                    Range::NotNegative,
                )?;
                number(
                    "reactive peak to date",
                    name,
                    charge.to_date_kvar,
                    Range::Any,
                )?;
                for step in &charge.steps {
                    index("charged step", name, *step, steps)?;
                }
            }
        }
        Ok(())
    }

    fn check_exclusive(&self) -> Result<(), StackError> {
        let mut taken = vec![false; self.products.len()];
        for group in &self.exclusive {
            for product in &group.products {
                index("product", &group.name, *product, self.products.len())?;
                if std::mem::replace(&mut taken[*product], true) {
                    return Err(StackError::Index {
                        what: "product",
                        name: group.name.clone(),
                        value: *product,
                        expected: "every product once in all exclusive groups".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    fn check_dimmings(&self) -> Result<(), StackError> {
        let mut taken = vec![false; self.vehicles.len()];
        for dimming in &self.dimmings {
            let name = &dimming.name;
            number("longest time", name, dimming.hours, Range::Positive)?;
            for left in &dimming.left {
                number("draw left", name, left.kw, Range::NotNegative)?;
                for vehicle in &left.vehicles {
                    index("vehicle", name, *vehicle, self.vehicles.len())?;
                    if std::mem::replace(&mut taken[*vehicle], true) {
                        return Err(StackError::Index {
                            what: "vehicle",
                            name: name.clone(),
                            value: *vehicle,
                            expected: "every vehicle once in all dimmings".to_owned(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// The part that the reference problem knows, for its checks.
    fn as_reference(&self) -> reference::Problem {
        let site = |base_kw: &Vec<f64>| reference::Site {
            import_kw: f64::INFINITY,
            export_kw: f64::INFINITY,
            base_kw: base_kw.clone(),
        };
        reference::Problem {
            step_hours: self.step_hours,
            import_price: self.import_price.clone(),
            export_price: self.export_price.clone(),
            wear: self.wear,
            shortfall: self.elastic.energy_per_kwh,
            sessions: self.vehicles.iter().map(|v| v.session.clone()).collect(),
            sites: self.sites.iter().map(|s| site(&s.base_kw)).collect(),
            reserves: Vec::new(),
            headroom: Headroom::Snapshot,
        }
    }

    fn check_places(&self, steps: usize) -> Result<(), StackError> {
        for site in &self.sites {
            for limit in site.import_kw.iter().chain(&site.export_kw) {
                number("limit", &site.name, *limit, Range::NotNegative)?;
            }
            for charge in &site.demand {
                number(
                    "demand charge",
                    &site.name,
                    charge.per_kw,
                    Range::NotNegative,
                )?;
                number(
                    "peak to date",
                    &site.name,
                    charge.to_date_kw,
                    Range::NotNegative,
                )?;
                number("ratchet", &site.name, charge.ratchet_kw, Range::NotNegative)?;
                for step in &charge.steps {
                    index("charged step", &site.name, *step, steps)?;
                }
            }
        }
        for area in &self.areas {
            length(
                "import limit",
                &area.name,
                area.import_kw.len(),
                steps,
                true,
            )?;
            length(
                "export limit",
                &area.name,
                area.export_kw.len(),
                steps,
                true,
            )?;
            for limit in area.import_kw.iter().chain(&area.export_kw).flatten() {
                number("limit", &area.name, *limit, Range::Any)?;
            }
            for (position, site) in area.sites.iter().enumerate() {
                index("site", &area.name, *site, self.sites.len())?;
                if area.sites[..position].contains(site) {
                    return Err(StackError::Index {
                        what: "site",
                        name: area.name.clone(),
                        value: *site,
                        expected: "every site once".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    fn check_orders(&self, steps: usize) -> Result<(), StackError> {
        let name = "an order";
        for order in &self.orders {
            reach(name, &order.steps, steps)?;
            number("price", name, order.price, Range::Any)?;
            number("half-spread", name, order.half_spread, Range::NotNegative)?;
            number("power held", name, order.held_kw, Range::Any)?;
            number("most power", name, order.most_kw, Range::NotNegative)?;
        }
        let Some(imbalance) = &self.imbalance else {
            return if self.orders.is_empty() {
                Ok(())
            } else {
                Err(StackError::Index {
                    what: "number of imbalance prices",
                    name: "the problem".to_owned(),
                    value: 0,
                    expected: "one per step where there are orders".to_owned(),
                })
            };
        };
        length(
            "short price",
            "imbalance",
            imbalance.short.len(),
            steps,
            false,
        )?;
        length(
            "long price",
            "imbalance",
            imbalance.long.len(),
            steps,
            false,
        )?;
        for (short, long) in imbalance.short.iter().zip(&imbalance.long) {
            number("short price", "imbalance", *short, Range::Any)?;
            number("long price", "imbalance", *long, Range::Any)?;
            number(
                "short less long price",
                "imbalance",
                short - long,
                Range::NotNegative,
            )?;
        }
        Ok(())
    }
}

/// Powers decided already are within the charger's, over steps of the stay.
fn check_fixed(name: &str, vehicle: &Vehicle) -> Result<(), StackError> {
    let session = &vehicle.session;
    let (fixed, steps) = (vehicle.fixed_kw.len(), session.share.len());
    if fixed > steps {
        return Err(StackError::Index {
            what: "number of fixed powers",
            name: name.to_owned(),
            value: fixed,
            expected: format!("at most one per step of the stay, {steps}"),
        });
    }
    for ((charge, discharge), share) in vehicle.fixed_kw.iter().zip(&session.share) {
        for (fixed, most) in [
            (charge, session.charge_kw),
            (discharge, session.discharge_kw),
        ] {
            number("fixed power", name, *fixed, Range::NotNegative)?;
            number(
                "room above a fixed power",
                name,
                share * most - fixed + ROUNDING,
                Range::NotNegative,
            )?;
        }
    }
    Ok(())
}

fn check_product(product: &Product, steps: usize) -> Result<(), StackError> {
    let name = &product.name;
    let wrong = |what: String| StackError::Product {
        name: name.clone(),
        what,
    };
    if product.up.is_none() && product.down.is_none() {
        return Err(wrong(
            "asks for neither Up nor Down, expected at least one".to_owned(),
        ));
    }
    for way in product.up.iter().chain(&product.down) {
        number("power per power sold", name, way.power, Range::Positive)?;
        number("delivered share", name, way.delivered, Range::Share)?;
        number("endurance", name, way.endurance_hours, Range::NotNegative)?;
    }
    number(
        "smallest volume",
        name,
        product.minimum_mw,
        Range::NotNegative,
    )?;
    number("volume step", name, product.step_mw, Range::NotNegative)?;
    let mut taken = vec![false; steps];
    for Block {
        steps: range,
        price,
        most_mw,
        awarded_mw,
        ..
    } in &product.blocks
    {
        reach(name, range, steps)?;
        number("capacity price", name, *price, Range::Any)?;
        number("award", name, *awarded_mw, Range::NotNegative)?;
        number(
            "most volume",
            name,
            most_mw.unwrap_or(0.0),
            Range::NotNegative,
        )?;
        for step in range.clone() {
            if std::mem::replace(&mut taken[step], true) {
                return Err(wrong(format!("blocks overlap at step {step}")));
            }
        }
    }
    Ok(())
}

fn reach(name: &str, range: &std::ops::Range<usize>, steps: usize) -> Result<(), StackError> {
    if range.start < range.end && range.end <= steps {
        return Ok(());
    }
    Err(StackError::Index {
        what: "last step",
        name: name.to_owned(),
        value: range.end,
        expected: format!(
            "after its first, {}, and within the grid of {steps}",
            range.start
        ),
    })
}

fn length(
    what: &'static str,
    name: &str,
    value: usize,
    steps: usize,
    may_be_empty: bool,
) -> Result<(), StackError> {
    if value == steps || may_be_empty && value == 0 {
        return Ok(());
    }
    Err(StackError::Index {
        what,
        name: name.to_owned(),
        value,
        expected: format!("one entry per step, {steps}"),
    })
}

fn index(what: &'static str, name: &str, value: usize, count: usize) -> Result<(), StackError> {
    if value < count {
        return Ok(());
    }
    Err(StackError::Index {
        what,
        name: name.to_owned(),
        value,
        expected: format!("an index below {count}"),
    })
}

fn number(what: &'static str, name: &str, value: f64, range: Range) -> Result<(), StackError> {
    let (good, expected) = match range {
        Range::Any => (true, "a finite number"),
        Range::NotNegative => (value >= 0.0, "zero or more"),
        Range::Positive => (value > 0.0, "more than zero"),
        Range::Share => ((0.0..=1.0).contains(&value), "between 0 and 1"),
    };
    if good && value.is_finite() {
        return Ok(());
    }
    Err(StackError::Number {
        what,
        name: name.to_owned(),
        value,
        expected,
    })
}
