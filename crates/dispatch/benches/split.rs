//! Splitting one set-point over 100 000 EVSEs.
#![expect(clippy::unwrap_used, reason = "a benchmark may end")]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use dispatch::{Pool, SiteLimit, Unit, split};
use units::Power;

const UNITS: i64 = 100_000;

fn pool(per_site: i64, min_charge: i64) -> Pool {
    let units = (0..UNITS)
        .map(|i| Unit {
            id: format!("e{i:06}").parse().unwrap(),
            site: format!("s{:05}", i / per_site).parse().unwrap(),
            plan: Power::from_watts((i * 7_919) % 11_000),
            up: Power::from_watts((i * 31) % 500),
            down: Power::from_watts((i * 17) % 500),
            low: Power::from_watts(if i % 3 == 0 { -11_000 } else { 0 }),
            high: Power::from_watts(11_000),
            min_charge: Power::from_watts(if i % 3 == 0 { 0 } else { min_charge }),
            weight: 1.0 + f64::from(u32::try_from(i % 5).unwrap()),
            on: i % 2 == 0,
            told: None,
        })
        .collect();
    let limits = (0..UNITS / per_site)
        .map(|s| {
            let limit = SiteLimit {
                import: Power::from_watts(per_site * 8_000),
                export: Power::from_watts(per_site * 4_000),
            };
            (format!("s{s:05}").parse().unwrap(), limit)
        })
        .collect::<BTreeMap<_, _>>();
    Pool::new(units, &limits)
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("split 100k");
    group.sample_size(20);
    for (name, per_site, min) in [
        ("sites of 10", 10, 0),
        ("one site", UNITS, 0),
        ("sites of 10, 6 A", 10, 4_140),
    ] {
        let pool = pool(per_site, min);
        let planned = pool.planned();
        let call = planned - Power::from_mw(60.0);
        group.bench_function(name, |b| {
            b.iter(|| split(black_box(&pool), black_box(call)))
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
