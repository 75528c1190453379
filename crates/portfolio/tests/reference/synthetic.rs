//! Problems made from a seed: the same seed is the same problem everywhere.

use portfolio::reference::{Block, Direction, Headroom, Problem, Reserve, Session, Site};

/// A small generator (`SplitMix64`); tests and benches need repeatable numbers, not good ones.
#[derive(Debug)]
pub(crate) struct Seed(pub u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `low..high`.
    pub(crate) fn real(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `0..below`.
    pub(crate) fn index(&mut self, below: usize) -> usize {
        (self.next() % below as u64) as usize
    }

    /// True with a chance.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.real(0.0, 1.0) < share
    }
}

/// What a problem should hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) sessions: usize,
    pub(crate) steps: usize,
    /// Sites, each with limits on what its sessions may draw and feed together; 0 for none.
    pub(crate) sites: usize,
    /// Limits as a share of the power installed.
    pub(crate) tightness: f64,
    /// Base load of half the sites, as a share of the power installed: least and most.
    pub(crate) base: (f64, f64),
    /// Share of vehicles that may discharge.
    pub(crate) v2g: f64,
    pub(crate) negative_prices: bool,
    pub(crate) fcr: Option<Headroom>,
    pub(crate) afrr: bool,
}

impl Kind {
    pub(crate) fn energy(sessions: usize, steps: usize) -> Self {
        Self {
            sessions,
            steps,
            sites: 0,
            tightness: 0.0,
            base: (-0.1, 0.2),
            v2g: 0.7,
            negative_prices: false,
            fcr: None,
            afrr: false,
        }
    }
}

/// Builds the problem of a seed: quarter hours, prices with a daily shape, a night or day's stay per session.
pub(crate) fn problem(kind: Kind, seed: u64) -> Problem {
    let mut seed = Seed(seed);
    let steps = kind.steps;
    let low = if kind.negative_prices { -260.0 } else { 20.0 };
    let mut hourly = 0.0;
    let price: Vec<f64> = (0..steps)
        .map(|step| {
            if step % 4 == 0 {
                hourly = seed.real(low, 160.0);
            }
            hourly
                + if seed.chance(0.3) {
                    seed.real(-5.0, 5.0)
                } else {
                    0.0
                }
        })
        .collect();
    let (import_fee, export_fee) = (seed.real(0.0, 20.0), seed.real(0.0, 5.0));
    let sessions: Vec<Session> = (0..kind.sessions)
        .map(|_| session(kind, &mut seed))
        .collect();
    let sites = (0..kind.sites)
        .map(|index| site(kind, index, &sessions, &mut seed))
        .collect();
    Problem {
        step_hours: 0.25,
        import_price: price.iter().map(|p| p + import_fee).collect(),
        export_price: price.iter().map(|p| p - export_fee).collect(),
        wear: seed.real(0.0, 40.0),
        shortfall: 2.0,
        sessions,
        sites,
        reserves: reserves(kind, &mut seed),
        headroom: kind.fcr.unwrap_or(Headroom::Snapshot),
    }
}

fn session(kind: Kind, seed: &mut Seed) -> Session {
    let length = (1 + seed.index(kind.steps.min(60))).min(kind.steps);
    let first = seed.index(kind.steps - length + 1);
    let mut share = vec![1.0; length];
    if seed.chance(0.8) {
        share[0] = seed.real(0.0, 1.0);
    }
    if seed.chance(0.8) && length > 1 {
        share[length - 1] = seed.real(0.0, 1.0);
    }
    let capacity = [40.0, 58.0, 77.0, 100.0][seed.index(4)];
    // Some arrive below the share that is otherwise kept, some full.
    let arrival: f64 = match seed.index(10) {
        0 => capacity * 0.05,
        1 => capacity,
        _ => capacity * seed.real(0.1, 0.8),
    };
    let charge_kw = [3.7, 11.0, 22.0][seed.index(3)];
    let discharge_kw = if seed.chance(kind.v2g) {
        charge_kw * seed.real(0.5, 1.0)
    } else {
        0.0
    };
    let efficiency = if seed.chance(0.1) {
        1.0
    } else {
        seed.real(0.88, 0.97)
    };
    let floor = (0.1 * capacity).min(arrival);
    let reachable = arrival + efficiency * charge_kw * 0.25 * share.iter().sum::<f64>();
    let required = capacity * seed.real(0.3, 1.0);
    Session {
        site: (kind.sites > 0).then(|| seed.index(kind.sites)),
        first,
        share,
        capacity,
        arrival,
        floor,
        goal: required.min(capacity).min(reachable).max(floor),
        charge_kw,
        discharge_kw,
        charge_efficiency: efficiency,
        discharge_efficiency: efficiency,
    }
}

fn site(kind: Kind, index: usize, sessions: &[Session], seed: &mut Seed) -> Site {
    let mut powers = vec![0.0; kind.steps];
    for session in sessions
        .iter()
        .filter(|session| session.site == Some(index))
    {
        session
            .steps()
            .for_each(|step| powers[step] += session.charge_kw);
    }
    let peak = powers.iter().copied().fold(1.0, f64::max);
    let base_kw: Vec<f64> = if seed.chance(0.5) {
        (0..kind.steps)
            .map(|_| seed.real(kind.base.0, kind.base.1) * peak)
            .collect()
    } else {
        Vec::new()
    };
    Site {
        import_kw: (0.21 + kind.tightness * seed.real(0.5, 1.5)) * peak,
        export_kw: if seed.chance(0.2) {
            f64::from(u32::MAX)
        } else {
            (0.11 + kind.tightness * seed.real(0.2, 1.0)) * peak
        },
        base_kw,
    }
}

fn reserves(kind: Kind, seed: &mut Seed) -> Vec<Reserve> {
    let mut all = Vec::new();
    let mut blocks = |length: usize, high: f64| {
        let count = kind.steps / length;
        (0..count)
            .map(|b| Block {
                steps: b * length..(b + 1) * length,
                price: seed.real(-2.0, high),
            })
            .collect()
    };
    if kind.fcr.is_some() {
        let blocks = blocks(16, 120.0);
        all.push(Reserve {
            direction: Direction::Symmetric,
            power_factor: 1.25,
            endurance_hours: 0.5,
            blocks,
        });
    }
    if kind.afrr {
        for direction in [Direction::Up, Direction::Down] {
            let blocks = blocks(16, 60.0);
            all.push(Reserve {
                direction,
                power_factor: 1.0,
                endurance_hours: 1.0,
                blocks,
            });
        }
    }
    all
}
