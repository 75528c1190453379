//! Reserve sold: which bids were awarded, who holds it, and what is missing of it.

use std::ops::Range;

use super::Rolling;
use super::hold::{Hold, Share, nothing, share_out};
use super::known::Known;
use super::player::Player;
use crate::policy::{penalty, qualify};

/// Times that what some refuse is shared out among the others before it is missing: each time the refusers are out, so
/// that a second sharing finds nearly all there is.
const SHARINGS: usize = 4;

/// What counts as missing, kW: more than sums of floating point numbers are off by.
const LEAST_MISSING: f64 = 1e-6;

/// Reserve sold in one block.
pub(super) struct Award {
    /// Index into [`Case::reserves`](crate::case::Case::reserves).
    pub(super) product: usize,
    /// Index among the blocks on sale.
    pub(super) block: usize,
    /// Steps of the period.
    pub(super) steps: Range<usize>,
    /// MW.
    pub(super) mw: f64,
}

impl Rolling<'_> {
    /// Takes in results that are out: a bid is won if the marginal price covers it.
    pub(super) fn clear_reserve(&mut self, known: &Known<'_>) -> bool {
        let (case, now) = (self.case, known.instant());
        let mut won = false;
        for bid in self
            .bids
            .iter_mut()
            .filter(|b| b.won.is_none() && b.results <= now)
        {
            let reserve = &case.reserves[bid.product];
            let pay = reserve.on_sale().nth(bid.block).and_then(|(b, _)| {
                let pricing = penalty::pricing(case.area, reserve.product, b.start);
                penalty::pay(pricing, bid.price, b.price)
            });
            bid.won = Some(pay.is_some());
            if let Some(pay) = pay {
                self.sold_mw[bid.product][bid.block] = bid.mw;
                self.paid[bid.product][bid.block] = pay;
                won = true;
            }
        }
        won
    }

    /// All answer the others' plans with what is sold shared out among them. What one refuses for its own needs the
    /// others are asked for at once: a few kW missing for a moment spoil the block.
    pub(super) fn hold_reserve(&mut self, known: &Known<'_>) {
        for player in &mut self.players {
            player.full = false;
        }
        for _ in 0..SHARINGS {
            self.assign_reserve(known);
            self.settle(known);
            if (0..self.case.reserves.len()).all(|p| self.missing_kw(p, known.now) <= LEAST_MISSING)
            {
                break;
            }
        }
    }

    /// Shares out what is sold from step `now` on among the vehicles that are there or expected.
    fn assign_reserve(&mut self, known: &Known<'_>) {
        if self.sold_mw.iter().flatten().all(|mw| *mw <= 0.0) {
            return;
        }
        let discharge = self.discharges();
        let sure_until = known.now + self.steps_of_an_hour();
        for player in &mut self.players {
            player.note_holds();
        }
        for (product, reserve) in self.case.reserves.iter().enumerate() {
            for (b, (_, steps)) in reserve.on_sale().enumerate() {
                let mw = self.sold_mw[product][b];
                let ahead = steps.start.max(known.now)..steps.end;
                if mw > 0.0 && !ahead.is_empty() && ahead.start < known.now + self.steps_of_days(2)
                {
                    let share = Share {
                        product,
                        steps: ahead,
                        kw: mw * 1000.0,
                        sure_until,
                        pictures: self.pool.odds().len(),
                    };
                    let terms = &self.pool.terms;
                    share_out(self.case, terms, &mut self.players, &share, discharge);
                }
            }
        }
    }

    /// Reserve sold in blocks that begin within `steps`.
    pub(super) fn awards(&self, steps: &Range<usize>) -> Vec<Award> {
        let products = self.case.reserves.iter().zip(&self.sold_mw).enumerate();
        products
            .flat_map(|(product, (reserve, sold))| {
                let blocks = reserve.on_sale().zip(sold).enumerate();
                blocks.map(move |(block, ((_, steps), mw))| Award {
                    product,
                    block,
                    steps,
                    mw: *mw,
                })
            })
            .filter(|award| award.mw > 0.0 && steps.contains(&award.steps.start))
            .collect()
    }

    /// Shares out what is sold in blocks that begin within `steps` among `players`, those expected in so many pictures.
    pub(super) fn hold_awards(
        &self,
        players: &mut [Player],
        known: &Known<'_>,
        steps: &Range<usize>,
        pictures: usize,
    ) {
        for award in self.awards(steps) {
            let share = Share {
                product: award.product,
                steps: award.steps.start.max(known.now)..award.steps.end,
                kw: award.mw * 1000.0,
                sure_until: known.now,
                pictures,
            };
            let terms = &self.pool.terms;
            share_out(self.case, terms, players, &share, self.discharges());
        }
    }

    /// Steps until the shares are surely looked at again.
    fn steps_of_an_hour(&self) -> usize {
        self.steps_of_days(1).div_ceil(24)
    }

    /// Records what is held in step `t` and what is missing of what was sold.
    pub(super) fn record_reserve(&mut self, t: usize) {
        for product in 0..self.case.reserves.len() {
            if self.sold_at(product, t) <= 0.0 {
                continue;
            }
            for player in &self.players {
                let Some(index) = player.real else { continue };
                let Some(hold) = player.hold(product, t) else {
                    continue;
                };
                let session = &self.case.sessions[index];
                // Whoever leaves within the step cannot deliver in all of it.
                if session.share_at(t) < 1.0 {
                    continue;
                }
                let j = t - session.first;
                let kept =
                    self.held[index].get_or_insert_with(|| nothing(self.case, session.share.len()));
                // Earlier products may have taken part of what charging could be cancelled.
                let taken: f64 = kept.iter().map(|h| h.up_charge_kw[j]).sum();
                let cancelled = hold
                    .up
                    .min((player.charge[j] - player.discharge[j] - taken).max(0.0));
                kept[product].up_charge_kw[j] = cancelled;
                kept[product].up_discharge_kw[j] = hold.up - cancelled;
                kept[product].down_kw[j] = hold.down;
            }
            let missing = self.missing_kw(product, t);
            if missing > LEAST_MISSING {
                self.missing_mw[product][t] = missing / 1000.0;
            }
        }
    }

    /// What the vehicles that are there do not hold in step `t` of what is sold of a product, kW; not above zero where
    /// all is held.
    fn missing_kw(&self, product: usize, t: usize) -> f64 {
        let sold = self.sold_at(product, t) * 1000.0;
        if sold <= 0.0 {
            return 0.0;
        }
        let mut held = Hold::default();
        for player in &self.players {
            let Some(index) = player.real else { continue };
            // Whoever leaves within the step cannot deliver in all of it.
            if self.case.sessions[index].share_at(t) < 1.0 {
                continue;
            }
            let hold = player.hold(product, t).unwrap_or_default();
            held.up += hold.up;
            held.down += hold.down;
        }
        sold - held.counts(self.case.reserves[product].direction())
    }

    /// Blocks sold that end with step `t` are done: what was missing of them counts for the qualification and for the aim
    /// of volumes to come. Bids at the next gate are the first to know.
    pub(super) fn judge_blocks(&mut self, t: usize) {
        let case = self.case;
        for (product, reserve) in case.reserves.iter().enumerate() {
            for (index, (block, steps)) in reserve.on_sale().enumerate() {
                if steps.end != t + 1 || self.sold_mw[product][index] <= 0.0 {
                    continue;
                }
                let short = self.missing_mw[product][steps].iter().any(|mw| *mw > 0.0);
                self.aims[product].delivered(short);
                if let Some(rule) = qualify::rule(case.area, reserve.product, block.start) {
                    self.qualifications[product].delivered(rule, block.end, short);
                }
            }
        }
    }

    /// MW sold of a product in step `t`.
    fn sold_at(&self, product: usize, t: usize) -> f64 {
        let blocks = self.case.reserves[product]
            .on_sale()
            .zip(&self.sold_mw[product]);
        blocks
            .filter(|((_, s), _)| s.contains(&t))
            .map(|(_, mw)| mw)
            .sum()
    }
}
