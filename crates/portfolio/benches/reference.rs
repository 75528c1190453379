//! Reference problems of growing size, from seeds.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "numbers made from seeds"
)]

#[path = "../tests/reference/synthetic.rs"]
mod synthetic;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portfolio::reference::{Headroom, solve};
use synthetic::{Kind, problem};

const WINDOW: Headroom = Headroom::Window { recovery_steps: 2 };

fn reference(criterion: &mut Criterion) {
    let month = Kind::energy(1000, 31 * 96);
    let day = Kind::energy(30, 96);
    let mut group = criterion.benchmark_group("reference");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(5));
    for (name, kind) in [
        ("month, energy", month),
        (
            "month, 20 sites",
            Kind {
                sites: 20,
                tightness: 0.3,
                ..month
            },
        ),
        (
            "day, FCR snapshot",
            Kind {
                fcr: Some(Headroom::Snapshot),
                ..day
            },
        ),
        (
            "day, FCR window",
            Kind {
                fcr: Some(WINDOW),
                ..day
            },
        ),
        (
            "day, FCR window, 3 sites",
            Kind {
                fcr: Some(WINDOW),
                sites: 3,
                tightness: 0.3,
                ..day
            },
        ),
    ] {
        let problem = problem(kind, 1);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| solve(black_box(&problem)))
        });
    }
    group.finish();
}

criterion_group!(benches, reference);
criterion_main!(benches);
