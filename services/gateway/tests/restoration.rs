//! Restoration reserve: its signal is followed over the full activation time, and no further than it was sold.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::time::Duration;

use market::{Direction, Product};
use support::{PATIENCE, World, at, award, fcr_bid};
use tokio_stream::StreamExt;
use units::Power;
use wire::proto::dispatch::v1 as proto;
use wire::proto::dispatch::v1::dispatch_service_client::DispatchServiceClient;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restoration_ramps_towards_its_signal_and_an_empty_pool_says_what_is_missing() {
    // 60 times real time: the ramp of five minutes takes five seconds.
    let world = World::with_speed(at("2026-01-11T00:20:00Z"), 1, false, 60.0).await;
    let mut sold = award(
        &fcr_bid(0, at("2026-01-10T06:00:00Z")),
        1,
        at("2026-01-10T07:30:00Z"),
    );
    sold.product = Product::AfrrUp;
    sold.direction = Direction::Up;
    world.store.tables().upsert_award(&sold).await.unwrap();
    let running = world.start();
    world
        .until("the gateway listens", async || {
            world.fake.seen.lock().unwrap().signals.is_some()
        })
        .await;
    let mut client = DispatchServiceClient::new(running.channel.clone());
    let mut cycles = client
        .watch(proto::WatchRequest {})
        .await
        .unwrap()
        .into_inner();
    let sender = world.fake.seen.lock().unwrap().signals.clone().unwrap();
    let clock = world.clock;
    let signals = tokio::spawn(async move {
        for n in 0.. {
            let signal = wire::proto::market::v1::GridSignal {
                id: format!("a{n}"),
                at_micros: clock.now().timestamp_micros(),
                deviation_mhz: None,
                afrr_watts: Some(-5_000_000),
            };
            if sender.send(Ok(signal)).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut last = 0;
    let mut seen = 0;
    let ramp = async {
        while let Some(Ok(cycle)) = cycles.next().await {
            assert!(
                cycle.afrr_watts <= last && cycle.afrr_watts >= -1_000_000,
                "{cycle:?}"
            );
            assert_eq!(
                cycle.shortfall_watts, cycle.target_watts,
                "nobody is plugged in"
            );
            last = cycle.afrr_watts;
            seen += 1;
            if last == -1_000_000 {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, ramp).await.unwrap();
    assert!(seen > 10, "a ramp, not a step: {seen} cycles");
    signals.abort();
    let listed = client
        .list_activations(proto::ListActivationsRequest {
            from_micros: 0,
            to_micros: i64::MAX / 2,
        })
        .await
        .unwrap()
        .into_inner()
        .activations;
    assert_eq!(
        listed[0].largest_request_watts,
        Power::from_mw(-1.0).watts()
    );
    assert!(
        !listed[0].followed,
        "nothing was measured: there is no evidence"
    );
    running.stop().await;
}
