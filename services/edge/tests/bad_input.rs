//! Whatever a client sends, it is named, kept and survived.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test says where"
)]

mod support;

use chrono::{DateTime, Utc};
use fleet::Telemetry;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use shoal_edge::Config;
use support::{Bench, bench, bench_with, quiet};
use tokio_tungstenite::tungstenite::Error as WsError;
use units::Energy;

fn at() -> DateTime<Utc> {
    "2026-06-09T18:00:00Z".parse().unwrap()
}

/// Waits until a reason containing `part` is in quarantine; returns the original bytes.
async fn quarantined(bench: &Bench, part: &str) -> Vec<u8> {
    for _ in 0..500 {
        let found = bench
            .quarantined()
            .await
            .into_iter()
            .find(|q| q.reason.contains(part));
        if let Some(found) = found {
            return found.original;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!(
        "nothing in quarantine says {part:?}: {:?}",
        bench.quarantined().await
    );
}

#[tokio::test]
async fn an_unknown_station_gets_404_and_a_known_one_gets_in() {
    let bench = bench().await;
    match bench.try_connect("stranger", Some("ocpp2.1")).await {
        Err(WsError::Http(response)) => assert_eq!(response.status(), 404),
        other => panic!("expected 404, got {:?}", other.err()),
    }
    let mut known = bench.connect("one-way", "ocpp1.6").await;
    let boot = json!({"chargePointVendor": "V", "chargePointModel": "M"});
    assert_eq!(
        known.call("BootNotification", boot).await["status"],
        "Accepted"
    );
    bench.finish().await;
}

#[tokio::test]
async fn a_station_that_authenticates_as_another_is_refused() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let bench = bench().await;
    // "both-ways:key" and "one-way:key" in base 64.
    for (authorization, status) in [
        ("Basic Ym90aC13YXlzOmtleQ==", 401),
        ("Basic b25lLXdheTprZXk=", 101),
    ] {
        let url = format!("ws://{}/ocpp/one-way", bench.address);
        let mut request = url.into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", "ocpp1.6".parse().unwrap());
        headers.insert("authorization", authorization.parse().unwrap());
        let met = match tokio_tungstenite::connect_async(request).await {
            Ok((_, response)) => response.status(),
            Err(WsError::Http(response)) => response.status(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(met, status);
    }
    bench.finish().await;
}

#[tokio::test]
async fn a_station_registered_later_gets_in_without_a_restart() {
    let bench = bench().await;
    let late = support::evse("late", 1, fleet::Protocol::Ocpp16);
    bench.store.tables().upsert_evse(&late).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let mut client = bench.connect("late", "ocpp1.6").await;
    client.call("Heartbeat", json!({})).await;
    bench.finish().await;
}

#[tokio::test]
async fn a_wrong_subprotocol_is_closed_with_a_reason() {
    let bench = bench().await;
    // A client that offers something else may refuse the answer itself.
    if let Ok(mut client) = bench.try_connect("one-way", Some("ocpp9.9")).await {
        assert_eq!(client.closed().await, Some(1002));
    }
    let mut silent = bench.try_connect("one-way", None).await.unwrap();
    assert_eq!(silent.closed().await, Some(1002));
    assert!(bench.told().await.is_empty());
    bench.finish().await;
}

#[tokio::test]
async fn broken_frames_are_kept_and_the_connection_goes_on() {
    let bench = bench().await;
    let mut two = bench.connect("both-ways", "ocpp2.1").await;
    let mut one = bench.connect("one-way", "ocpp1.6").await;
    for broken in [
        "{not json",
        "{\"a\": 1}",
        "[]",
        "[2]",
        "[2, 7, \"Heartbeat\", {}]",
        "",
        "null",
        "[\"2\",\"x\"]",
    ] {
        one.send(broken).await;
        two.send(broken).await;
        let answer = two.next().await.unwrap();
        assert_eq!(
            (&answer[0], &answer[1]),
            (&json!(4), &json!("-1")),
            "{broken}: {answer}"
        );
        assert_eq!(answer[2], "RpcFrameworkError", "{broken}: {answer}");
    }
    one.send_bytes(vec![0, 159, 146, 150]).await;
    assert!(one.call("Heartbeat", json!({})).await["currentTime"].is_string());
    assert!(two.call("Heartbeat", json!({})).await["currentTime"].is_string());
    let kept = bench.quarantined().await;
    assert_eq!(kept.len(), 17);
    assert!(
        kept.iter()
            .any(|q| q.source == "one-way" && q.original == b"{not json")
    );
    assert!(
        kept.iter().any(|q| q.original == [0, 159, 146, 150]),
        "binary is kept as it came"
    );
    bench.finish().await;
}

#[tokio::test]
async fn unknown_actions_and_wrong_payloads_get_the_code_of_their_version() {
    let bench = bench().await;
    let mut one = bench.connect("one-way", "ocpp1.6").await;
    let mut two = bench.connect("both-ways", "ocpp2.1").await;
    let cases: [(&str, Value, &str, &str); 6] = [
        ("MakeCoffee", json!({}), "NotImplemented", "NotImplemented"),
        (
            "RemoteStartTransaction",
            json!({}),
            "NotSupported",
            "NotImplemented",
        ),
        (
            "Heartbeat",
            json!([1]),
            "FormationViolation",
            "FormatViolation",
        ),
        (
            "BootNotification",
            json!({}),
            "OccurenceConstraintViolation",
            "OccurrenceConstraintViolation",
        ),
        (
            "MeterValues",
            json!({"connectorId": "x", "evseId": "x", "meterValue": []}),
            "TypeConstraintViolation",
            "TypeConstraintViolation",
        ),
        (
            "Authorize",
            json!({"idTag": "x".repeat(99), "idToken": {"idToken": "x".repeat(999), "type": "Central"}}),
            "PropertyConstraintViolation",
            "PropertyConstraintViolation",
        ),
    ];
    for (action, payload, code16, code21) in cases {
        let answer = one.ask(action, payload.clone()).await;
        assert_eq!(
            (&answer[0], &answer[2]),
            (&json!(4), &json!(code16)),
            "{action}: {answer}"
        );
        let answer = two.ask(action, payload).await;
        assert_eq!(
            (&answer[0], &answer[2]),
            (&json!(4), &json!(code21)),
            "{action}: {answer}"
        );
    }
    let kept = quarantined(&bench, "MakeCoffee").await;
    assert_eq!(kept, br#"[2,"c1","MakeCoffee",{}]"#);
    bench.finish().await;
}

#[tokio::test]
async fn a_long_message_is_refused_and_an_endless_one_cuts_only_its_own_connection() {
    let config = Config {
        message_limit_bytes: 2_000,
        buffer_limit_bytes: 10_000,
        ..quiet()
    };
    let bench = bench_with(config).await;
    let mut other = bench.connect("both-ways", "ocpp2.1").await;
    let mut client = bench.connect("one-way", "ocpp1.6").await;
    let long = json!({"vendorId": "v", "data": "x".repeat(3_000)});
    let answer = client.ask("DataTransfer", long).await;
    assert_eq!(answer[2], "FormationViolation", "{answer}");
    client.call("Heartbeat", json!({})).await;
    // The edge may hang up while we are still sending.
    let _ = client.try_send("x".repeat(50_000)).await;
    client.closed().await;
    quarantined(&bench, "expected text of at most 10000 bytes").await;
    other.call("Heartbeat", json!({})).await;
    let mut back = bench.connect("one-way", "ocpp1.6").await;
    back.call("Heartbeat", json!({})).await;
    bench.finish().await;
}

#[tokio::test]
async fn content_that_makes_no_sense_is_refused_by_name() {
    let bench = bench().await;
    let mut one = bench.connect("one-way", "ocpp1.6").await;
    let start =
        json!({"connectorId": 9, "idTag": "x", "meterStart": 0, "timestamp": at().to_rfc3339()});
    let answer = one.ask("StartTransaction", start).await;
    assert_eq!(answer[2], "PropertyConstraintViolation", "{answer}");
    let stop = json!({"transactionId": -5, "meterStop": 1, "timestamp": at().to_rfc3339()});
    let answer = one.ask("StopTransaction", stop).await;
    assert!(
        answer[3]
            .as_str()
            .unwrap()
            .contains("-5 was not given by this system"),
        "{answer}"
    );
    let naive = json!({"connectorId": 1, "idTag": "x", "meterStart": 0, "timestamp": "2026-06-09T18:00:00"});
    assert_eq!(
        one.ask("StartTransaction", naive).await[0],
        json!(4),
        "an instant needs an offset"
    );
    let mut two = bench.connect("both-ways", "ocpp2.1").await;
    let needs = json!({"evseId": 1, "chargingNeeds": {"requestedEnergyTransfer": "DC_BPT"}});
    let answer = two.ask("NotifyEVChargingNeeds", needs).await;
    assert!(
        answer[3]
            .as_str()
            .unwrap()
            .contains("no transaction is running"),
        "{answer}"
    );
    let mut lost = support::event2("Updated", "nowhere", at());
    lost.as_object_mut().unwrap().remove("evse");
    let answer = two.ask("TransactionEvent", lost).await;
    assert_eq!(answer[2], "OccurrenceConstraintViolation", "{answer}");
    assert!(bench.quarantined().await.len() >= 5);
    bench.finish().await;
}

#[tokio::test]
async fn a_sample_that_cannot_be_read_is_kept_and_the_others_count() {
    let bench = bench().await;
    let mut one = bench.connect("one-way", "ocpp1.6").await;
    let values = json!({"connectorId": 1, "meterValue": [{"timestamp": at().to_rfc3339(), "sampledValue": [
        {"value": "a lot", "measurand": "Power.Active.Import"},
        {"value": "2500", "unit": "Wh"},
    ]}]});
    one.call("MeterValues", values).await;
    quarantined(
        &bench,
        "Power.Active.Import is \"a lot\", expected a number",
    )
    .await;
    let reading = bench
        .until(|told| {
            told.iter().find_map(|t| match t {
                Telemetry::Reading(reading) => Some(reading.clone()),
                _ => None,
            })
        })
        .await;
    assert_eq!(reading.import_register, Some(Energy::from_wh(2_500)));
    assert_eq!(reading.power, None);
    bench.finish().await;
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_kept_and_answered_with_nothing() {
    let bench = bench().await;
    let mut one = bench.connect("one-way", "ocpp1.6").await;
    let mut two = bench.connect("both-ways", "ocpp2.1").await;
    for client in [&mut one, &mut two] {
        client
            .send(r#"[3, "never-asked", {"status": "Accepted"}]"#)
            .await;
        client
            .send(r#"[4, "never-asked", "GenericError", "no", {}]"#)
            .await;
        // What comes next on the wire is the answer to this.
        client.call("Heartbeat", json!({})).await;
    }
    let unasked = quarantined(&bench, "answer to never-asked").await;
    assert_eq!(unasked, br#"{"status": "Accepted"}"#);
    bench.finish().await;
}

#[tokio::test]
async fn a_message_that_comes_twice_under_one_identifier_is_answered_alike_and_says_nothing_new() {
    let bench = bench().await;
    let mut one = bench.connect("one-way", "ocpp1.6").await;
    let start = json!({"connectorId": 1, "idTag": "car-0001", "meterStart": 0, "timestamp": at().to_rfc3339()});
    let message = json!([2, "same", "StartTransaction", start]).to_string();
    one.send(message.clone()).await;
    let first = one.next().await.unwrap();
    one.send(message).await;
    assert_eq!(one.next().await.unwrap(), first);
    let begun = |t: &&Telemetry| matches!(t, Telemetry::PluggedIn { .. });
    assert_eq!(bench.told().await.iter().filter(begun).count(), 1);
    bench.finish().await;
}

#[tokio::test]
async fn ten_mebibytes_end_only_the_connection_that_sent_them() {
    let bench = bench().await;
    let mut other = bench.connect("both-ways", "ocpp2.1").await;
    let mut client = bench.connect("one-way", "ocpp1.6").await;
    // The edge may hang up while we are still sending.
    let _ = client.try_send("x".repeat(10 * 1024 * 1024)).await;
    client.closed().await;
    quarantined(&bench, "expected text of at most 1048576 bytes").await;
    other.call("Heartbeat", json!({})).await;
    bench.finish().await;
}

#[tokio::test]
async fn instants_and_charges_that_cannot_be_are_refused_or_left_for_ingest_to_judge() {
    let bench = bench().await;
    let mut one = bench.connect("one-way", "ocpp1.6").await;
    for year in [1970, 2100] {
        let at = format!("{year}-01-01T00:00:00Z");
        let start = json!({"connectorId": 1, "idTag": "x", "meterStart": 0, "timestamp": at});
        let answer = one.ask("StartTransaction", start).await;
        assert_eq!(answer[2], "PropertyConstraintViolation", "{answer}");
        let values = json!({"connectorId": 1, "meterValue": [
            {"timestamp": at, "sampledValue": [{"value": "2500"}]}]});
        one.call("MeterValues", values).await;
    }
    quarantined(&bench, "cannot be numbered").await;
    let mut two = bench.connect("both-ways", "ocpp2.1").await;
    let values = json!({"evseId": 1, "meterValue": [{"timestamp": at().to_rfc3339(), "sampledValue": [
        {"value": 140, "measurand": "SoC"}, {"value": 7000, "measurand": "Power.Active.Import"}]}]});
    two.call("MeterValues", values).await;
    quarantined(&bench, "SoC").await;
    two.event2("Started", "tx-1", at()).await;
    let needs = json!({"evseId": 1, "chargingNeeds": {"requestedEnergyTransfer": "DC",
        "dcChargingParameters": {"evMaxCurrent": 30, "evMaxVoltage": 400, "stateOfCharge": 140, "energyAmount": 9000}}});
    let answer = two.ask("NotifyEVChargingNeeds", needs).await;
    assert_eq!(answer[0], json!(4), "{answer}");
    let told = bench.told().await;
    let readings = told.iter().filter_map(|t| match t {
        Telemetry::Reading(reading) => Some((reading.at.to_rfc3339(), reading.soc, reading.power)),
        _ => None,
    });
    let readings: Vec<_> = readings.collect();
    assert!(readings[0].0.starts_with("1970") && readings[1].0.starts_with("2100"));
    let watts = readings[2].2.map(units::Power::watts);
    assert_eq!(
        (readings[2].1, watts),
        (None, Some(7_000)),
        "the rest counts"
    );
    bench.finish().await;
}

#[tokio::test]
async fn a_flood_from_one_station_keeps_nobody_else_waiting() {
    const FLOOD: usize = 10_000;
    let bench = bench_with(Config {
        messages_per_second: 20_000,
        message_burst: 100,
        ..quiet()
    })
    .await;
    let mut loud = bench.connect("one-way", "ocpp1.6").await;
    let mut calm = bench.connect("both-ways", "ocpp2.1").await;
    let flood = tokio::spawn(async move {
        for number in 0..FLOOD {
            loud.send(json!([2, format!("h{number}"), "Heartbeat", {}]).to_string())
                .await;
            // Who never reads is cut off: that is another test.
            if number % 100 == 99 {
                for _ in 0..100 {
                    loud.next().await.unwrap();
                }
            }
        }
    });
    let mut served = 0;
    while !flood.is_finished() {
        calm.call("Heartbeat", json!({})).await;
        served += 1;
    }
    flood.await.unwrap();
    assert!(served > 10, "{served} answers during the flood");
    bench.finish().await;
}

#[tokio::test]
async fn a_meter_that_steps_back_passes_for_ingest_to_judge() {
    let bench = bench().await;
    let mut one = bench.connect("one-way", "ocpp1.6").await;
    for (seconds, register) in [(0, "5000"), (60, "4000")] {
        let when = at() + chrono::TimeDelta::seconds(seconds);
        let values = json!({"connectorId": 1, "meterValue": [
            {"timestamp": when.to_rfc3339(), "sampledValue": [{"value": register}]}]});
        one.call("MeterValues", values).await;
    }
    let registers = bench
        .until(|told| {
            let all: Vec<_> = told
                .iter()
                .filter_map(|t| match t {
                    Telemetry::Reading(reading) => reading.import_register,
                    _ => None,
                })
                .collect();
            (all.len() == 2).then_some(all)
        })
        .await;
    assert_eq!(registers, [Energy::from_wh(5_000), Energy::from_wh(4_000)]);
    bench.finish().await;
}

#[tokio::test]
async fn a_client_that_never_finishes_its_handshake_is_cut() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let config = Config {
        handshake_timeout_ms: 200,
        ..quiet()
    };
    let bench = bench_with(config).await;
    let mut socket = tokio::net::TcpStream::connect(bench.address).await.unwrap();
    socket
        .write_all(b"GET /ocpp/one-way HTTP/1.1\r\n")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let cut = tokio::time::timeout(support::PATIENCE, socket.read_to_end(&mut rest)).await;
    assert!(cut.is_ok(), "cut off in time");
    bench.finish().await;
}

#[test]
fn no_frame_breaks_the_edge() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (bench, mut one, mut two) = runtime.block_on(async {
        let bench = bench().await;
        let one = bench.connect("one-way", "ocpp1.6").await;
        let two = bench.connect("both-ways", "ocpp2.1").await;
        (bench, one, two)
    });
    let action = prop::sample::select(vec![
        "BootNotification",
        "StartTransaction",
        "StopTransaction",
        "MeterValues",
        "TransactionEvent",
        "NotifyEVChargingNeeds",
        "StatusNotification",
        "DataTransfer",
        "Nonsense",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,20}".prop_map(Value::from),
        Just(json!("2026-06-09T18:00:00Z")),
        Just(json!("9999-12-31T23:59:59Z")),
        Just(json!("-9999-12-31T23:59:59Z")),
    ];
    let value = leaf.prop_recursive(3, 24, 6, |inner| {
        let key = prop::sample::select(vec![
            "connectorId",
            "transactionId",
            "meterStart",
            "meterStop",
            "timestamp",
            "idTag",
            "meterValue",
            "sampledValue",
            "value",
            "unit",
            "evseId",
            "evse",
            "id",
            "eventType",
            "transactionInfo",
            "seqNo",
            "triggerReason",
            "chargingNeeds",
            "requestedEnergyTransfer",
            "v2xChargingParameters",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..8).prop_map(|pairs| Value::Object(
                pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
            )),
        ]
    });
    let frame = prop_oneof![
        "\\PC{0,200}",
        value.clone().prop_map(|v| v.to_string()),
        (0_u8..8, action, value)
            .prop_map(|(kind, action, payload)| json!([kind, "id", action, payload]).to_string()),
    ];
    let mut runner = TestRunner::deterministic();
    for _ in 0..400 {
        let frame = frame.new_tree(&mut runner).unwrap().current();
        runtime.block_on(async {
            one.send(frame.clone()).await;
            two.send(frame).await;
        });
    }
    runtime.block_on(async {
        for client in [&mut one, &mut two] {
            client.send(r#"[2,"last","Heartbeat",{}]"#).await;
            while client.next().await.expect("still connected")[1] != "last" {}
        }
        assert!(!bench.quarantined().await.is_empty());
        bench.finish().await;
    });
}
