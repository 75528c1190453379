//! Demand charge: how high a site may draw before the month gets dearer.
//!
//! Early in a month nothing is paid yet, and every kW would look dear: the peak that like days need anyway counts as
//! paid (`optimisation.md` 4.2). It is the highest of the month so far, or what the pictures of the day would draw if
//! their energy were spread evenly over the time they are plugged in, whichever is more.
#![expect(
    clippy::cast_precision_loss,
    reason = "counts of steps are far below 2^53"
)]

use std::collections::BTreeMap;

use chrono::Datelike;

use super::Rolling;
use super::known::Known;
use crate::policy::unmanaged::charge_at_once;

impl Rolling<'_> {
    /// Sets the draw that counts as paid at each site.
    pub(super) fn aim_for_peak(&mut self, known: &Known<'_>) {
        if self.case.costs.demand <= 0.0 {
            return;
        }
        for site in 0..self.case.sites.len() {
            self.pool.paid_peak[site] = self.peaks[site].max(self.even_peak(known, site));
        }
    }

    /// Highest draw of a site when the vehicles of each picture charge evenly, kW.
    fn even_peak(&self, known: &Known<'_>, site: usize) -> f64 {
        let (ec, hours) = (self.case.fleet.charge_efficiency, self.case.grid.hours());
        let mut pictures: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for player in self.players.iter().filter(|p| p.session.site == Some(site)) {
            let load = pictures
                .entry(player.picture)
                .or_insert_with(|| vec![0.0; self.case.grid.steps]);
            let powers = charge_at_once(&player.session, ec, hours);
            let even = powers.iter().sum::<f64>() / powers.len().max(1) as f64;
            for t in player.ahead() {
                load[t] += even;
            }
        }
        let highest = |load: &Vec<f64>| {
            let steps = load.iter().enumerate().skip(known.now);
            steps
                .map(|(t, kw)| kw + known.base(site, t))
                .fold(0.0, f64::max)
        };
        pictures.values().map(highest).fold(0.0, f64::max)
    }

    /// Takes in what each site drew in step `t`; a new local month begins at nothing.
    pub(super) fn note_peak(&mut self, t: usize) {
        if self.case.costs.demand <= 0.0 {
            return;
        }
        let zone = self.case.area.zone();
        let month = |t: usize| self.case.grid.at(t).with_timezone(&zone).month();
        let begins = t > 0 && month(t) != month(t - 1);
        for (index, site) in self.case.sites.iter().enumerate() {
            let drew = site.base(t) + self.pool.site_net(index, t);
            let before = if begins { 0.0 } else { self.peaks[index] };
            self.peaks[index] = before.max(drew);
        }
    }
}
