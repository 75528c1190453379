//! What a pool may sell and must respect beyond the two reserves of `[markets]`: further products, network areas, groups,
//! draw that may be dimmed, bounds offered to operators, products that exclude each other.

use std::collections::BTreeSet;

use market::{Area, Holdings, dimming::DEVICE};

use super::load::{ANY, MINUTES_OF_A_DAY, NOT_NEGATIVE, Reading};
use super::prices::{base_load, reserve};
use super::types::{
    AreaLimit, ConstraintOffer, Dimming, ExclusiveGroup, Extras, LossGroup, Markets, NetworkArea,
    ProductOffer, Site,
};
use crate::InputError;
use crate::series::{Per, Window};
use crate::tree::{Branch, Leaf};

const SITES: &str = "site ids, as in [\"garage-1\"]";

/// Reads `[[product]]`, `[[dso_area]]`, `[[group]]`, `[[dimming]]`, `[[constraint_offer]]` and `[[exclusive]]`.
pub(super) fn extras(
    root: &mut Branch<'_>,
    (area, markets): (Area, &Markets),
    sites: &[Site],
    reading: &mut Reading<'_>,
) -> Result<Extras, InputError> {
    let (product, dso_area, group) = (root.get("product"), root.get("dso_area"), root.get("group"));
    let products = each(product.as_ref(), |leaf| offer(leaf, area, reading))?;
    let areas = each(dso_area.as_ref(), |leaf| network_area(leaf, sites, reading))?;
    let groups = each(group.as_ref(), |leaf| loss_group(leaf, sites))?;
    let dimmings = dimmings(root.get("dimming").as_ref(), sites)?;
    let asked = root.get("constraint_offer");
    let offers = each(asked.as_ref(), |leaf| {
        constraint(leaf, &areas, reading.window)
    })?;
    let mut known: Vec<&str> = products.iter().map(|p| p.name.as_str()).collect();
    if markets.fcr.enabled {
        known.push("fcr");
    }
    if markets.afrr.enabled {
        known.extend(["afrr_up", "afrr_down"]);
    }
    let exclusive = exclusives(root.get("exclusive").as_ref(), &known)?;
    Ok(Extras {
        products,
        areas,
        groups,
        dimmings,
        offers,
        exclusive,
    })
}

/// The entries of a list of tables, each with a name of its own.
fn each<T>(
    list: Option<&Leaf<'_>>,
    mut read: impl FnMut(&Leaf<'_>) -> Result<(String, T), InputError>,
) -> Result<Vec<T>, InputError> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for leaf in list.into_iter().flat_map(Leaf::list) {
        let (name, entry) = read(&leaf)?;
        if !seen.insert(name.clone()) {
            return Err(leaf.error(format!("{name:?} again, expected a name of its own")));
        }
        found.push(entry);
    }
    Ok(found)
}

fn offer(
    leaf: &Leaf<'_>,
    area: Area,
    reading: &mut Reading<'_>,
) -> Result<(String, ProductOffer), InputError> {
    let mut table = leaf.branch("a table [[product]]")?;
    let name = table.need("name", "a reserve product, as in \"fcr_d_up\"")?;
    let text = name.text("a reserve product, as in \"fcr_d_up\"")?;
    let start = reading.window.start;
    if Holdings::built_in().at(area, text, start).is_none() {
        let known: BTreeSet<&str> = Holdings::built_in()
            .iter()
            .filter(|h| h.areas.contains(&area))
            .filter(|h| Holdings::built_in().at(area, &h.name, start).is_some())
            .map(|h| h.name.as_str())
            .collect();
        let known: Vec<&str> = known.into_iter().collect();
        return Err(name.error(format!(
            "{text:?} is not bought in {} on {}, expected one of {}",
            area.code(),
            start.with_timezone(&area.zone()).date_naive(),
            known.join(", ")
        )));
    }
    let price = table.need("price", "a series of capacity prices")?;
    let price = reserve(&price, Per::Hour, reading)?;
    let qualified_mw = table
        .get("qualified_mw")
        .map(|l| l.number(NOT_NEGATIVE))
        .transpose()?;
    table.finish()?;
    let offer = ProductOffer {
        name: text.to_owned(),
        price,
        qualified_mw,
    };
    Ok((text.to_owned(), offer))
}

fn network_area(
    leaf: &Leaf<'_>,
    sites: &[Site],
    reading: &mut Reading<'_>,
) -> Result<(String, NetworkArea), InputError> {
    let mut table = leaf.branch("a table [[dso_area]]")?;
    let id = table.need("id", "a name")?.text("a name")?.to_owned();
    let inside = named(&table.need("sites", SITES)?, sites)?;
    let mut limit = |fixed, series| {
        let (fixed, series) = (table.get(fixed), table.get(series));
        match (fixed, series) {
            (Some(_), Some(series)) => {
                Err(series.error("a series beside a fixed limit, expected one of them"))
            }
            (Some(fixed), None) => fixed.number(ANY).map(AreaLimit::Fixed),
            (None, Some(series)) => base_load(&series, reading).map(AreaLimit::Series),
            (None, None) => Ok(AreaLimit::None),
        }
    };
    let import = limit("import_limit_kw", "import_limit")?;
    let export = limit("export_limit_kw", "export_limit")?;
    table.finish()?;
    let area = NetworkArea {
        id: id.clone(),
        sites: inside,
        import,
        export,
    };
    Ok((id, area))
}

fn loss_group(leaf: &Leaf<'_>, sites: &[Site]) -> Result<(String, LossGroup), InputError> {
    let mut table = leaf.branch("a table [[group]]")?;
    let name = table.need("name", "a name")?.text("a name")?.to_owned();
    let sites = named(&table.need("sites", SITES)?, sites)?;
    table.finish()?;
    let group = LossGroup {
        name: name.clone(),
        sites,
    };
    Ok((name, group))
}

/// Every `[[dimming]]`; a site that is in two would be dimmed twice.
fn dimmings(list: Option<&Leaf<'_>>, sites: &[Site]) -> Result<Vec<Dimming>, InputError> {
    let mut taken = BTreeSet::new();
    each(list, |leaf| {
        let mut table = leaf.branch("a table [[dimming]]")?;
        let name = table.need("name", "a name")?.text("a name")?.to_owned();
        let places = table.need("sites", SITES)?;
        let inside = named(&places, sites)?;
        if let Some(twice) = inside.iter().find(|site| !taken.insert(**site)) {
            let id = &sites[*twice].id;
            return Err(places.error(format!("{id:?} again, expected every site in one dimming")));
        }
        let longest = table.need("longest_minutes", "minutes")?;
        let dimming = Dimming {
            name: name.clone(),
            sites: inside,
            longest_minutes: longest.number((1.0, MINUTES_OF_A_DAY.1))?,
            device_kw: table.number("device_kw", DEVICE.kw(), NOT_NEGATIVE)?,
            energy_manager: table.flag("energy_manager", false)?,
            hold_down: table.flag("hold_down", false)?,
        };
        table.finish()?;
        Ok((name, dimming))
    })
}

/// Every `[[exclusive]]`: two products and more that are on sale, none of them in two groups.
fn exclusives(list: Option<&Leaf<'_>>, known: &[&str]) -> Result<Vec<ExclusiveGroup>, InputError> {
    const PRODUCTS: &str = "names of products, as in [\"ffr\", \"fcr_d_up\"]";
    let mut taken = BTreeSet::new();
    each(list, |leaf| {
        let mut table = leaf.branch("a table [[exclusive]]")?;
        let name = table.need("name", "a name")?.text("a name")?.to_owned();
        let members = table.need("products", PRODUCTS)?;
        let mut products = Vec::new();
        for entry in members.list() {
            let product = entry.text(PRODUCTS)?;
            if !known.contains(&product) {
                return Err(entry.error(format!(
                    "{product:?} is not on sale in this file, expected one of {}",
                    known.join(", ")
                )));
            }
            if !taken.insert(product.to_owned()) {
                return Err(entry.error(format!(
                    "{product:?} again, expected every product in one group"
                )));
            }
            products.push(product.to_owned());
        }
        if products.len() < 2 {
            return Err(
                members.error("fewer than two products, expected those that exclude each other")
            );
        }
        table.finish()?;
        let group = ExclusiveGroup {
            name: name.clone(),
            products,
        };
        Ok((name, group))
    })
}

fn constraint(
    leaf: &Leaf<'_>,
    areas: &[NetworkArea],
    window: Window,
) -> Result<(String, ConstraintOffer), InputError> {
    let mut table = leaf.branch("a table [[constraint_offer]]")?;
    let name = table.need("name", "a name")?.text("a name")?.to_owned();
    let place = table.need("area", "the id of a dso_area")?;
    let id = place.text("the id of a dso_area")?;
    let area = areas.iter().position(|a| a.id == id).ok_or_else(|| {
        place.error(format!(
            "{id:?}, expected the id of a [[dso_area]] of this file"
        ))
    })?;
    let on_grid = |leaf: &Leaf<'_>| {
        let at = leaf.instant()?;
        let whole = (at - window.start).num_seconds() % window.step.num_seconds() == 0;
        if at < window.start || at > window.end || !whole {
            return Err(leaf.error(format!(
                "{at}, expected the beginning of a step of the period"
            )));
        }
        Ok(at)
    };
    let (from, to) = (
        table.need("from", "an instant")?,
        table.need("to", "an instant")?,
    );
    let (begin, end) = (on_grid(&from)?, on_grid(&to)?);
    if begin >= end {
        return Err(to.error(format!(
            "{end} is not after from, {begin}, expected a later instant"
        )));
    }
    let answered = table.get("answered").map(|l| on_grid(&l)).transpose()?;
    let bounds = table.need("bounds_kw", "a list of kW, the widest first")?;
    let mut bounds_kw: Vec<f64> = Vec::new();
    for bound in bounds.list() {
        let kw = bound.number(ANY)?;
        if bounds_kw.last().is_some_and(|last| kw >= *last) {
            return Err(bound.error(format!("{kw}, expected less than the bound before it")));
        }
        bounds_kw.push(kw);
    }
    if bounds_kw.is_empty() {
        return Err(bounds.error("an empty list, expected kW, the widest first"));
    }
    let offer = ConstraintOffer {
        name: name.clone(),
        area,
        from: begin,
        to: end,
        answered,
        bounds_kw,
        rebound_per_mwh: table.number("rebound_per_mwh", 0.0, NOT_NEGATIVE)?,
        margin_share: table.number("margin_share", 0.0, NOT_NEGATIVE)?,
    };
    table.finish()?;
    Ok((name, offer))
}

/// Indices of sites that have an entry of their own, each once.
fn named(leaf: &Leaf<'_>, sites: &[Site]) -> Result<Vec<usize>, InputError> {
    let mut found: Vec<usize> = Vec::new();
    for entry in leaf.list() {
        let id = entry.text(SITES)?;
        let index = sites.iter().position(|s| s.id == id).ok_or_else(|| {
            entry.error(format!(
                "{id:?}, expected the id of a [[site]] of this file"
            ))
        })?;
        if found.contains(&index) {
            return Err(entry.error(format!("{id:?} again, expected every site once")));
        }
        found.push(index);
    }
    if found.is_empty() {
        return Err(leaf.error(format!("an empty list, expected {SITES}")));
    }
    Ok(found)
}
