//! Whatever the bytes, a reader answers and never panics.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::float_cmp,
    reason = "helpers of tests; values stand in the files to the digit"
)]

use std::fs;

use frames::import::{FORMATS, Options};
use frames::table::{Column, Table};
use frames::{scenario, sessions};
use proptest::prelude::*;

const HEADS: [&str; 9] = [
    "",
    "utc_start,price\n",
    "delivery_date_local,product,x\n",
    "Datum von;Datum bis;DE [€/MWh]\n",
    "MTU (CET/CEST),Day-ahead Price [EUR/MWh]\n",
    "plug_in_local,plug_out_local,energy_wh,connected_hours,charging_hours,max_power_w\n",
    "{\"unix_seconds\":[",
    "<Publication_MarketDocument><TimeSeries><Period>",
    "site,arrival,departure,delivered_energy_kwh,station_id,session_id,claimed\n",
];

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        "[-0-9.,:;TZ+ e\"/A-z<>{}\\[\\]=#\n]{0,80}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..120),
        Just(b"2018-10-28 02:30:00,9999-12-31 00:00:00,1e308,1e300,-1,1\n".to_vec()),
        Just(b"2024-01-01T00:00:00Z,1e308\n+262142-12-31T23:00:00Z,1\n".to_vec()),
        Just(b"2024-01-01,POS_00_04,1\n99999-01-01,POS_4294967295_04,1\n".to_vec()),
        Just(b"<timeInterval><start>2024-01-01T00:00Z</start><end>2199-01-01T00:00Z</end></timeInterval><resolution>PT15M</resolution></Period>".to_vec()),
    ];
    (0..HEADS.len(), prop::collection::vec(line, 0..4)).prop_map(|(head, lines)| {
        let mut bytes = HEADS[head].as_bytes().to_vec();
        bytes.extend(lines.concat());
        bytes
    })
}

/// A claim of too many values would end the process while memory is reserved, before anything could be caught.
#[test]
fn no_single_damaged_byte_of_a_parquet_file_ends_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.parquet");
    let gaps = |i: i64| (i % 3 > 0).then_some(i);
    let table = Table::new()
        .with("n", Column::Int((0..20).map(gaps).collect()))
        .and_then(|t| t.with("who", Column::texts((0..20).map(|i| (i / 5).to_string()))))
        .unwrap();
    table.write_parquet(&file).unwrap();
    let whole = fs::read(&file).unwrap();
    let mut refused = 0;
    for at in 0..whole.len() {
        for byte in [whole[at] ^ 0x01, whole[at] ^ 0x80] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            fs::write(&file, bytes).unwrap();
            refused += usize::from(Table::read_parquet(&file).is_err());
        }
    }
    assert!(refused > 200, "{refused} of {}", 2 * whole.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_import_panics(bytes in soup(), format in 0..FORMATS.len(), weeks in prop_oneof![Just(0_i64), any::<i64>()], gz in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(if gz { "x.csv.gz" } else { "x.csv" });
        fs::write(&file, &bytes).unwrap();
        let options = Options { shift_weeks: weeks, ..Options::default() };
        if let Ok(imported) = FORMATS[format].read(&[file], &options) {
            let s = imported.summary;
            prop_assert_eq!(s.rows_read, s.rows_kept + s.rows_refused);
        }
    }

    #[test]
    fn no_scenario_and_no_session_file_panics(bytes in soup(), text in "[a-z \\[\\]{}=\".0-9\n-]{0,200}") {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sessions.csv");
        fs::write(&file, &bytes).unwrap();
        let _ = sessions::read(&file);
        fs::write(dir.path().join("da.csv"), &bytes).unwrap();
        for toml in [
            format!("name=\"a\"\narea=\"NL\"\nfrom=2024-01-01\nto=2024-01-02\n[prices]\nday_ahead={{file=\"da.csv\",column=\"price\",fill=\"hold\"}}\n[fleet]\nsessions=\"sessions.csv\"\n{text}"),
            text,
        ] {
            let file = dir.path().join("scenario.toml");
            fs::write(&file, toml).unwrap();
            let _ = scenario::load(&file);
        }
    }

    #[test]
    fn a_damaged_parquet_file_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.parquet");
        let table = Table::new()
            .with("a", Column::ints(0..40))
            .and_then(|t| t.with("b", Column::texts((0..40).map(|i| i.to_string()))))
            .unwrap();
        table.write_parquet(&file).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if byte % 2 == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&file, bytes).unwrap();
        let _ = Table::read_parquet(&file);
    }
}
