//! Gradient-boosted regression trees for a quantile (Friedman 2001, with the loss of Koenker and Bassett 1978).
//!
//! Inputs are cut into at most [`BINS`] classes of like size once; a split is chosen by the squared sum of gradients and
//! a leaf holds the quantile of what is not explained in it. A tree may look at a part of the rows and inputs only
//! (Friedman 2002). Everything is sums in a fixed order and drawn from a fixed seed: the same rows give the same trees.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Classes of an input.
const BINS: usize = 32;

/// How trees grow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Growth {
    pub(crate) trees: usize,
    pub(crate) depth: usize,
    /// Rows in a leaf, at least.
    pub(crate) leaf: usize,
    /// Part of each leaf's value that is taken.
    pub(crate) rate: f64,
    /// Level of the quantile, 0 to 1.
    pub(crate) level: f64,
    /// Share of the rows and of the inputs that a tree looks at; 1 is all.
    pub(crate) looked_at: [f64; 2],
}

/// A fitted ensemble.
#[derive(Debug, Clone)]
pub(crate) struct Trees {
    base: f64,
    trees: Vec<Vec<Node>>,
}

#[derive(Debug, Clone, Copy)]
enum Node {
    Split {
        input: usize,
        /// Values up to here go left.
        threshold: f64,
        left: usize,
        right: usize,
    },
    Leaf(f64),
}

impl Trees {
    /// Value at `row`.
    pub(crate) fn at(&self, row: &[f64]) -> f64 {
        let value = |tree: &Vec<Node>| {
            let mut place = 0;
            loop {
                match tree.get(place) {
                    Some(Node::Split {
                        input,
                        threshold,
                        left,
                        right,
                    }) => {
                        place = if row[*input] <= *threshold {
                            *left
                        } else {
                            *right
                        }
                    }
                    Some(Node::Leaf(value)) => return *value,
                    None => return 0.0,
                }
            }
        };
        self.base + self.trees.iter().map(value).sum::<f64>()
    }

    /// Fits `target`, a value per row of `cuts`.
    pub(crate) fn fit(cuts: &Cuts, target: &[f64], growth: Growth) -> Self {
        let base = quantile(&mut target.to_vec(), growth.level);
        let mut rest: Vec<_> = target.iter().map(|t| t - base).collect();
        let mut trees = Vec::with_capacity(growth.trees);
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let [of_rows, of_inputs] = growth.looked_at;
        for _ in 0..growth.trees {
            let mut grower = Grower {
                cuts,
                rest: &rest,
                growth,
                rows: some(rest.len(), of_rows, &mut rng),
                inputs: some(cuts.ends.len(), of_inputs, &mut rng),
                nodes: Vec::new(),
                step: vec![0.0; rest.len()],
            };
            let all: Vec<u32> = (0..u32::try_from(rest.len()).unwrap_or(u32::MAX)).collect();
            grower.grow(all, 0);
            let Grower { nodes, step, .. } = grower;
            for (rest, step) in rest.iter_mut().zip(step) {
                *rest -= step;
            }
            trees.push(nodes);
        }
        Self { base, trees }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a sample"
)]
fn quantile(values: &mut [f64], level: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let place = ((values.len() - 1) as f64 * level).round() as usize;
    *values.select_nth_unstable_by(place, f64::total_cmp).1
}

/// Which of `count` are looked at, each with chance `share`.
fn some(count: usize, share: f64, rng: &mut ChaCha8Rng) -> Vec<bool> {
    (0..count)
        .map(|_| share >= 1.0 || rng.random::<f64>() < share)
        .collect()
}

/// Inputs in classes.
#[derive(Debug)]
pub(crate) struct Cuts {
    /// Upper ends of all classes but the last, by input.
    ends: Vec<Vec<f64>>,
    /// Class of each row, by input.
    class: Vec<Vec<u8>>,
}

impl Cuts {
    /// Rows of equal length, all finite.
    pub(crate) fn new(rows: &[Vec<f64>]) -> Self {
        let inputs = rows.first().map_or(0, Vec::len);
        let (mut ends, mut class) = (Vec::new(), Vec::new());
        for input in 0..inputs {
            let mut sorted: Vec<_> = rows.iter().map(|r| r[input]).collect();
            sorted.sort_by(f64::total_cmp);
            let mut cuts: Vec<_> = (1..BINS).map(|b| sorted[sorted.len() * b / BINS]).collect();
            cuts.dedup();
            let of = |value: f64| cuts.partition_point(|end| *end < value);
            class.push(
                rows.iter()
                    .map(|r| u8::try_from(of(r[input])).unwrap_or(u8::MAX))
                    .collect(),
            );
            ends.push(cuts);
        }
        Self { ends, class }
    }
}

struct Grower<'a> {
    cuts: &'a Cuts,
    rest: &'a [f64],
    growth: Growth,
    /// Rows and inputs that this tree looks at.
    rows: Vec<bool>,
    inputs: Vec<bool>,
    nodes: Vec<Node>,
    step: Vec<f64>,
}

impl Grower<'_> {
    /// Adds the node of `rows` and everything below it; returns its place.
    fn grow(&mut self, rows: Vec<u32>, depth: usize) -> usize {
        let place = self.nodes.len();
        self.nodes.push(Node::Leaf(0.0));
        let split = if depth < self.growth.depth {
            self.best(&rows)
        } else {
            None
        };
        let Some((input, class)) = split else {
            let seen = rows.iter().filter(|r| self.rows[**r as usize]);
            let mut values: Vec<_> = seen.map(|r| self.rest[*r as usize]).collect();
            let value = self.growth.rate * quantile(&mut values, self.growth.level);
            for row in rows {
                self.step[row as usize] = value;
            }
            self.nodes[place] = Node::Leaf(value);
            return place;
        };
        let goes_left = |r: &u32| usize::from(self.cuts.class[input][*r as usize]) <= class;
        let (low, high): (Vec<_>, Vec<_>) = rows.into_iter().partition(goes_left);
        let left = self.grow(low, depth + 1);
        let right = self.grow(high, depth + 1);
        self.nodes[place] = Node::Split {
            input,
            threshold: self.cuts.ends[input][class],
            left,
            right,
        };
        place
    }

    /// Input and last class of the left side with the largest gain.
    #[expect(clippy::cast_precision_loss, reason = "rows of a training window")]
    fn best(&self, rows: &[u32]) -> Option<(usize, usize)> {
        let seen = rows.iter().filter(|r| self.rows[**r as usize]);
        let rows: Vec<u32> = seen.copied().collect();
        if rows.is_empty() {
            return None;
        }
        let leaf = self.growth.leaf;
        let gradient = |r: u32| match self.rest[r as usize] {
            rest if rest > 0.0 => self.growth.level,
            rest if rest < 0.0 => self.growth.level - 1.0,
            _ => 0.0,
        };
        let gradients: Vec<_> = rows.iter().map(|r| gradient(*r)).collect();
        let total: f64 = gradients.iter().sum();
        let score = |sum: f64, n: usize| sum * sum / n as f64;
        let mut best = (score(total, rows.len()) + 1e-9, None);
        let looked_at = (0..self.cuts.ends.len()).filter(|i| self.inputs[*i]);
        for input in looked_at {
            let (mut sums, mut counts) = ([0.0_f64; BINS], [0_usize; BINS]);
            let class = &self.cuts.class[input];
            for (row, gradient) in rows.iter().zip(&gradients) {
                let class = usize::from(class[*row as usize]);
                sums[class] += gradient;
                counts[class] += 1;
            }
            let (mut sum, mut n) = (0.0, 0);
            for cut in 0..self.cuts.ends[input].len() {
                sum += sums[cut];
                n += counts[cut];
                if n < leaf || rows.len() - n < leaf {
                    continue;
                }
                let gain = score(sum, n) + score(total - sum, rows.len() - n);
                if gain > best.0 {
                    best = (gain, Some((input, cut)));
                }
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROWTH: Growth = Growth {
        trees: 80,
        depth: 3,
        leaf: 10,
        rate: 0.2,
        level: 0.5,
        looked_at: [1.0; 2],
    };

    #[test]
    fn a_step_in_one_input_is_found_and_others_are_ignored() {
        let rows: Vec<Vec<f64>> = (0..400)
            .map(|i| vec![f64::from(i % 20), f64::from(i % 7)])
            .collect();
        let target: Vec<_> = rows
            .iter()
            .map(|r| if r[0] < 10.0 { 1.0 } else { 5.0 })
            .collect();
        let trees = Trees::fit(&Cuts::new(&rows), &target, GROWTH);
        assert!((trees.at(&[3.0, 2.0]) - 1.0).abs() < 0.05);
        assert!((trees.at(&[15.0, 6.0]) - 5.0).abs() < 0.05);
    }

    #[test]
    fn a_level_of_90_percent_leaves_a_tenth_above() {
        let rows: Vec<Vec<f64>> = (0..2000).map(|i| vec![f64::from(i % 2)]).collect();
        let target: Vec<_> = (0..2000)
            .map(|i| f64::from((i * 7919) % 1000) * (1.0 + f64::from(i % 2)))
            .collect();
        let trees = Trees::fit(
            &Cuts::new(&rows),
            &target,
            Growth {
                level: 0.9,
                ..GROWTH
            },
        );
        assert!(
            (trees.at(&[0.0]) - 900.0).abs() < 30.0,
            "{}",
            trees.at(&[0.0])
        );
        assert!(
            (trees.at(&[1.0]) - 1800.0).abs() < 60.0,
            "{}",
            trees.at(&[1.0])
        );
    }
}
