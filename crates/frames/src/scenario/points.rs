//! Grid connection points: their limits, their other load, reactive power.

use std::collections::BTreeSet;

use super::load::{ANY, NOT_NEGATIVE, Reading};
use super::prices::base_load;
use super::types::{ReactivePoint, Site};
use crate::InputError;
use crate::tree::{Branch, Leaf};

/// Reads every `[[site]]`.
pub(super) fn sites(
    leaf: Option<&Leaf<'_>>,
    reading: &mut Reading<'_>,
) -> Result<Vec<Site>, InputError> {
    let mut sites = Vec::new();
    let mut seen = BTreeSet::new();
    for leaf in leaf.into_iter().flat_map(Leaf::list) {
        let mut table = leaf.branch("a table [[site]]")?;
        let id = table.need("id", "the site_id of its sessions")?;
        let name = id.text("the site_id of its sessions")?.to_owned();
        if !seen.insert(name.clone()) {
            return Err(id.error(format!("site {name:?} again, expected a name of its own")));
        }
        let import_limit_kw = optional(&mut table, "import_limit_kw", NOT_NEGATIVE)?;
        let export_limit_kw = optional(&mut table, "export_limit_kw", NOT_NEGATIVE)?;
        let base_load = table
            .get("base_load")
            .map(|l| base_load(&l, reading))
            .transpose()?;
        let peak_to_date_kw = table.number("peak_to_date_kw", 0.0, NOT_NEGATIVE)?;
        let refund_ledger_kwh = table.number("refund_ledger_kwh", 0.0, NOT_NEGATIVE)?;
        let reactive = reactive(&mut table, reading)?;
        table.finish()?;
        sites.push(Site {
            id: name,
            import_limit_kw,
            export_limit_kw,
            base_load,
            peak_to_date_kw,
            reactive,
            refund_ledger_kwh,
        });
    }
    Ok(sites)
}

/// The number at `key` if there is one.
pub(super) fn optional(
    table: &mut Branch<'_>,
    key: &'static str,
    range: (f64, f64),
) -> Result<Option<f64>, InputError> {
    table.get(key).map(|leaf| leaf.number(range)).transpose()
}

/// What a site says of reactive power; `None` where it says nothing.
fn reactive(
    table: &mut Branch<'_>,
    reading: &mut Reading<'_>,
) -> Result<Option<ReactivePoint>, InputError> {
    let rating_kva = optional(table, "rating_kva", NOT_NEGATIVE)?;
    let base = table.get("base_reactive");
    let base = base.map(|leaf| base_load(&leaf, reading)).transpose()?;
    let low_kvar = optional(table, "reactive_low_kvar", ANY)?;
    let high = table.get("reactive_high_kvar");
    let high_kvar = high.as_ref().map(|leaf| leaf.number(ANY)).transpose()?;
    if let (Some(leaf), Some(low), Some(most)) = (high, low_kvar, high_kvar)
        && most < low
    {
        return Err(leaf.error(format!(
            "{most} is below reactive_low_kvar, {low}, expected at least as much"
        )));
    }
    let peak = table.get("reactive_peak_to_date_kvar");
    let peak = peak.map(|leaf| leaf.number(NOT_NEGATIVE)).transpose()?;
    let said = [rating_kva, low_kvar, high_kvar, peak]
        .iter()
        .any(Option::is_some);
    Ok((said || base.is_some()).then(|| ReactivePoint {
        rating_kva,
        base,
        low_kvar,
        high_kvar,
        peak_to_date_kvar: peak.unwrap_or(0.0),
    }))
}
