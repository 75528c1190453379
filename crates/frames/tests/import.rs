//! Every foreign format on a small sample of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::float_cmp,
    reason = "helpers of tests; values stand in the files to the digit"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use frames::import::{Format, Imported, Options};
use frames::sessions::{self, Session};
use frames::table::Column;
use tempfile::TempDir;

/// Writes `text` as `name` and imports it.
fn import_as(
    format: &str,
    name: &str,
    text: &str,
    options: &Options,
) -> Result<(TempDir, Imported), String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    fs::write(&file, text).unwrap();
    let imported = Format::named(format)
        .unwrap()
        .read(&[file], options)
        .map_err(|e| e.to_string())?;
    let summary = &imported.summary;
    assert_eq!(
        summary.rows_read,
        summary.rows_kept + summary.rows_refused,
        "{summary:?}"
    );
    if format != "gtfs" {
        assert_eq!(summary.rows_kept, imported.table.rows());
    }
    Ok((dir, imported))
}

fn import(format: &str, text: &str, options: &Options) -> Imported {
    import_as(format, "sample.csv", text, options)
        .unwrap_or_else(|e| panic!("{e}"))
        .1
}

fn assume(text: &str) -> Options {
    Options {
        assume: text.parse().unwrap(),
        ..Options::default()
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The canonical sessions, as the canonical reader sees them.
fn sessions_of(imported: &Imported) -> Vec<Session> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.csv");
    imported.table.write(&file).unwrap();
    sessions::read(&file).unwrap()
}

fn refused(imported: &Imported) -> BTreeMap<&str, usize> {
    imported
        .summary
        .refused
        .iter()
        .map(|(k, v)| (k.as_str(), v.rows))
        .collect()
}

fn repaired(imported: &Imported) -> BTreeMap<&str, usize> {
    imported
        .summary
        .repaired
        .iter()
        .map(|(k, v)| (k.as_str(), v.rows))
        .collect()
}

fn starts(imported: &Imported) -> Vec<String> {
    let Some(Column::Instant(starts)) = imported.table.column("utc_start") else {
        panic!("utc_start")
    };
    starts
        .iter()
        .map(|s| s.unwrap().format("%m-%dT%H:%M").to_string())
        .collect()
}

fn floats(imported: &Imported, column: &str) -> Vec<Option<f64>> {
    let Some(Column::Float(values)) = imported.table.column(column) else {
        panic!(
            "{column} is not among {:?}",
            imported.table.columns().map(|c| c.0).collect::<Vec<_>>()
        )
    };
    values.clone()
}

const ELAAD: &str =
    "plug_in_local,plug_out_local,energy_wh,connected_hours,charging_hours,max_power_w\n";

#[test]
fn elaad_repairs_what_the_duration_tells_and_refuses_the_rest() {
    let text = format!(
        "{ELAAD}\
2018-06-04 08:00:00,2018-06-04 10:00:00,9400,2.0,1.5,7400\n\
2018-12-31 20:00:00,2018-01-01 08:00:00,5000,12.0,1.5,3500\n\
2018-02-28 20:00:00,2018-02-29 08:00:00,5000,12.0,-1.5,3500\n\
2018-02-29 08:00:00,2018-02-29 10:00:00,5000,2.0,1.5,3500\n\
2018-03-25 02:30:00,2018-03-25 08:00:00,5000,5.5,1.5,3500\n\
2018-10-28 02:30:00,2018-10-28 08:00:00,5000,6.5,1.5,3500\n\
2018-06-05 08:00:00,2018-06-05 10:00:00,-1,2.0,1.5,7400\n\
2018-06-06 08:00:00,2018-06-06 10:00:00,90000,2.0,1.5,50000\n\
2018-06-07 08:00:00,2018-06-15 10:00:00,100,194.0,1.5,3500\n"
    );
    let imported = import(
        "elaad",
        &text,
        &assume("capacity_kwh=60,departure_fraction=0.8,max_discharge_kw=7"),
    );
    assert_eq!(
        refused(&imported),
        BTreeMap::from([
            ("start is missing or no date of the calendar", 1),
            ("start in the hour that the clock change skips", 1),
            ("negative energy", 1),
            ("more energy than the assumed capacity", 1),
            ("stays too long (longest_stay_hours)", 1),
        ])
    );
    assert_eq!(
        repaired(&imported),
        BTreeMap::from([
            (
                "end does not fit the stated duration: start plus duration taken",
                1
            ),
            (
                "end is missing or no date of the calendar: start plus duration taken",
                1
            ),
            ("negative charging time: ignored", 1),
            ("start in the repeated hour: first pass taken", 1),
        ])
    );
    assert!(
        imported.summary.refused["negative energy"]
            .first
            .ends_with("sample.csv:8")
    );
    let all = sessions_of(&imported);
    assert_eq!(all.len(), 4);
    let summer = all
        .iter()
        .find(|s| s.plug_in == at("2018-06-04T06:00:00Z"))
        .unwrap();
    assert_eq!(summer.plug_out, at("2018-06-04T08:00:00Z"));
    assert_eq!(summer.energy_required_kwh, 48.0);
    assert_eq!(
        summer.energy_arrival_kwh,
        Some(39.164),
        "48 less 9.4 kWh at the meter times 0.94"
    );
    assert_eq!((summer.max_charge_kw, summer.max_discharge_kw), (7.4, 7.0));
    assert!(
        all.iter().any(|s| s.plug_out == at("2019-01-01T07:00:00Z")),
        "the year is put right"
    );
    assert!(
        all.iter().any(|s| s.plug_out == at("2018-03-01T07:00:00Z")),
        "the 29th is the 1st of March"
    );
    assert!(
        all.iter().any(|s| s.plug_in == at("2018-10-28T00:30:00Z")),
        "first pass"
    );
    assert!(imported.table.notes["assumed"].contains("capacity_kwh=60"));
    assert!(imported.table.notes["assumed names"].contains("stand-ins"));
}

#[test]
fn without_a_fraction_the_level_at_arrival_stays_unknown() {
    let text = format!("{ELAAD}2018-06-04 08:00:00,2018-06-04 10:00:00,10000,2.0,1.5,0\n");
    let all = sessions_of(&import("elaad", &text, &Options::default()));
    assert_eq!(all[0].energy_arrival_kwh, None);
    assert_eq!(all[0].max_charge_kw, 11.0);
    assert_eq!(all[0].max_discharge_kw, 0.0);
}

#[test]
fn arrival_fraction_sets_the_level_at_arrival() {
    let text = format!("{ELAAD}2018-06-04 08:00:00,2018-06-04 10:00:00,10000,2.0,1.5,7000\n");
    let all = sessions_of(&import(
        "elaad",
        &text,
        &assume("arrival_fraction=0.5,charge_efficiency=1"),
    ));
    assert_eq!(
        (all[0].energy_arrival_kwh, all[0].energy_required_kwh),
        (Some(30.0), 40.0)
    );
    let all = sessions_of(&import(
        "elaad",
        &text,
        &assume("arrival_fraction=0.9,charge_efficiency=1"),
    ));
    assert_eq!(
        (all[0].energy_arrival_kwh, all[0].energy_required_kwh),
        (Some(50.0), 60.0)
    );
}

#[test]
fn nameless_stays_share_as_few_stand_ins_as_they_need() {
    let text = format!(
        "{ELAAD}\
2018-06-04 08:00:00,2018-06-04 10:00:00,1000,2.0,1.5,7000\n\
2018-06-04 09:00:00,2018-06-04 11:00:00,1000,2.0,1.5,7000\n\
2018-06-04 10:00:00,2018-06-04 12:00:00,1000,2.0,1.5,7000\n"
    );
    let all = sessions_of(&import("elaad", &text, &Options::default()));
    let evses: Vec<_> = all.iter().map(|s| s.evse_id.as_str()).collect();
    assert_eq!(evses, ["elaad-0001", "elaad-0002", "elaad-0001"]);
}

#[test]
fn shifting_by_weeks_keeps_weekday_and_local_clock_in_the_other_zone() {
    let text = "site,arrival,departure,requested_energy_kwh,delivered_energy_kwh,station_id,session_id,estimated_departure,claimed\n\
jpl,2019-05-06 08:00:00-07:00,2019-05-06 17:00:00-07:00,20,10,A,one,,True\n\
jpl,2019-05-06 08:00:00-07:00,2019-05-06 07:00:00-07:00,20,10,A,two,,True\n\
jpl,2019-05-06 08:00:00,2019-05-06 17:00:00-07:00,20,10,A,three,,True\n\
jpl,2019-05-07 08:00:00-07:00,2019-05-07 17:00:00-07:00,10,10,A,one,,True\n\
jpl,2019-05-07 08:00:00-07:00,2019-05-07 17:00:00-07:00,10,10,A,four,,False\n\
jpl,2019-05-08 08:00:00-07:00,2019-05-08 17:00:00-07:00,10,,A,five,,True\n";
    let options = Options {
        shift_weeks: 253,
        to_zone: Some(chrono_tz::Europe::Berlin),
        ..Options::default()
    };
    let imported = import("acn", text, &options);
    let all = sessions_of(&imported);
    assert_eq!(
        all[0].plug_in,
        at("2024-03-11T07:00:00Z"),
        "a Monday, 08:00 in Berlin"
    );
    assert_eq!(all[0].plug_out, at("2024-03-11T16:00:00Z"));
    assert_eq!(all[0].vehicle_id, "v-A");
    assert_eq!(
        refused(&imported),
        BTreeMap::from([
            ("end is not after start", 1),
            ("start is missing or no date of the calendar", 1),
            ("a second row with the same session id", 1),
            ("energy is missing or no number", 1),
        ])
    );
    assert_eq!(repaired(&imported).len(), 1, "one unclaimed session");
    assert!(imported.table.notes["shifted"].contains("253 weeks"));
}

#[test]
fn from_and_to_keep_stays_wholly_within() {
    let text = format!(
        "{ELAAD}\
2018-06-03 23:00:00,2018-06-04 10:00:00,1000,11.0,1.5,7000\n\
2018-06-04 00:00:00,2018-06-04 11:00:00,1000,11.0,1.5,7000\n\
2018-06-04 23:00:00,2018-06-05 01:00:00,1000,2.0,1.5,7000\n"
    );
    let options = Options {
        from: "2018-06-04".parse().ok(),
        to: "2018-06-05".parse().ok(),
        ..Options::default()
    };
    let imported = import("elaad", &text, &options);
    assert_eq!(imported.summary.rows_kept, 1);
    assert_eq!(
        refused(&imported),
        BTreeMap::from([("not wholly within --from and --to", 2)])
    );
}

#[test]
fn boulder_stamps_carry_their_offset() {
    let text = "station,zip,start_local,start_tz,end_local,end_tz,total_duration_hms,charging_time_hms,energy_kwh,port_type\n\
A,80301,2019-11-03T01:30,MDT,2019-11-03T01:40,MST,1:10:00,1:00:00,5,Level 2\n\
A,80301,2019-06-03T10:00,MDT,1968-06-03T12:00,MDT,2:00:00,1:00:00,5,Level 2\n\
A,80301,2019-06-04T10:00,MDT,2019-06-04T10:00,MDT,0:00:20,0:00:00,0,Level 2\n\
A,80301,2019-06-05T10:00,XYZ,2019-06-05T11:00,MDT,1:00:00,0:00:00,0,Level 2\n";
    let imported = import("boulder", text, &Options::default());
    let all = sessions_of(&imported);
    assert_eq!(all[1].plug_in, at("2019-11-03T07:30:00Z"));
    assert_eq!(all[1].plug_out, at("2019-11-03T08:40:00Z"));
    assert_eq!(
        all[0].plug_out,
        at("2019-06-03T18:00:00Z"),
        "the end's year is wrong"
    );
    assert_eq!(imported.summary.rows_refused, 2);
}

#[test]
fn dundee_and_norway_refuse_stays_without_end() {
    let text = "event_id,charge_point_id,connector,start_local,end_local,energy_kwh,site,model\n\
1,50339.0,2,2017-09-01T00:11,2017-09-01T00:48,20.5,\"Works, Rd\",Rapid\n\
2,50339.0,2,2017-09-01T00:11,,,Works,Rapid\n\
3,50339.0,2,2017-09-01T00:11,2017-09-01T00:11,1,Works,Rapid\n\
4,,2,2017-09-01T00:11,2017-09-01T00:41,1,Works,Rapid\n\
5,50339.0,2,2017-09-01T00:11,2017-09-01T00:21,100,Works,Rapid\n\
1,50339.0,2,2017-09-01T00:11,2017-09-01T00:48,20.5,Works,Rapid\n";
    let imported = import("dundee", text, &Options::default());
    assert_eq!(
        refused(&imported),
        BTreeMap::from([
            ("end is missing or no date of the calendar", 1),
            ("end is not after start", 1),
            ("no charge point", 1),
            ("mean power above 400 kW", 1),
            ("a second row with the same session id", 1),
        ])
    );
    let all = sessions_of(&imported);
    assert_eq!(
        (all[0].evse_id.as_str(), all[0].site_id.as_str()),
        ("50339-2", "Works, Rd")
    );
    assert_eq!(
        all[0].plug_in,
        at("2017-08-31T23:11:00Z"),
        "British summer time"
    );
    assert!(
        all[0].max_charge_kw > 33.2 && all[0].max_charge_kw < 33.3,
        "raised to the mean power"
    );

    let text = "session_id,garage_id,user_id,user_type,shared_id,plug_in_local,plug_out_local,energy_kwh,duration_hours\n\
1,G,G-1,Private,,2019-01-01T10:00,2019-01-01T12:00,3,2\n\
2,G,S-1,Shared,Shared-5,2019-01-01T10:00,,3,2\n\
3,G,G-1,Private,,2019-01-01T10:00,,3,\n";
    let imported = import("norway", text, &Options::default());
    let all = sessions_of(&imported);
    assert_eq!(all[1].evse_id, "G-Shared-5");
    assert_eq!(all[1].plug_out, at("2019-01-01T11:00:00Z"));
    assert_eq!(
        refused(&imported),
        BTreeMap::from([("end is missing or no date of the calendar", 1)])
    );
}

#[test]
fn a_wrong_column_and_a_broken_row_name_file_and_line() {
    let error = import_as(
        "elaad",
        "x.csv",
        "plug_in,plug_out\n1,2\n",
        &Options::default(),
    )
    .unwrap_err();
    assert!(
        error.contains(
            "x.csv:1: expected column \"plug_in_local\", met the columns plug_in, plug_out"
        ),
        "{error}"
    );
    let error = import_as(
        "elaad",
        "x.csv",
        &format!("{ELAAD}1,2\n"),
        &Options::default(),
    )
    .unwrap_err();
    assert!(error.contains("x.csv:2: 2 fields, expected 6"), "{error}");
    let missing = Format::named("acn")
        .unwrap()
        .read(&[PathBuf::from("/none.csv")], &Options::default());
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .contains("/none.csv: no such file")
    );
}

#[test]
fn prices_refuse_repeats_conflicts_and_instants_without_offset() {
    let text = "utc_start,a_eur_mwh,b_eur_mwh\n\
2024-01-01T01:00:00Z,2,\n\
2024-01-01T00:00:00Z,1,5\n\
2024-01-01T00:00:00Z,1,5\n\
2024-01-01T00:00:00Z,9,5\n\
2024-01-01T02:00:00,1,5\n\
2024-01-01T03:00:00Z,inf,5\n";
    let imported = import("prices", text, &Options::default());
    assert_eq!(starts(&imported), ["01-01T00:00", "01-01T01:00"]);
    assert_eq!(floats(&imported, "b_eur_mwh"), [Some(5.0), None]);
    assert_eq!(
        refused(&imported),
        BTreeMap::from([
            ("repeats an earlier row", 1),
            ("another value for an instant that an earlier row has", 1),
            ("start is missing, no instant, or without an offset", 1),
            ("a value that is no finite number", 1),
        ])
    );
}

#[test]
fn reserves_keep_one_row_per_product() {
    let text = "utc_start,product,gbp_mw_h\n2024-01-01T03:00:00Z,DCL,1\n2024-01-01T03:00:00Z,DCH,2\n2024-01-01T03:00:00Z,DCH,2\n";
    let imported = import("reserves", text, &Options::default());
    assert_eq!(imported.summary.rows_kept, 2);
    assert!(matches!(
        imported.table.column("product"),
        Some(Column::Text(_))
    ));
}

#[test]
fn frequency_counts_missing_seconds() {
    let text = "utc,deviation_mhz\n2024-08-17T00:00:00Z,5\n2024-08-17T00:00:01Z,-5\n2024-08-17T00:00:05Z,0\n";
    let imported = import("frequency", text, &Options::default());
    assert_eq!(imported.summary.rows_kept, 3);
    assert!(
        imported.summary.notes[0].starts_with("3 seconds are missing"),
        "{:?}",
        imported.summary.notes
    );
}

#[test]
fn regelleistung_products_follow_the_local_clock() {
    let text = "delivery_date_local,product,utc_start,utc_end,de_price_eur_mw_per_block\n\
2024-03-31,NEGPOS_00_04,2024-03-30T23:00:00Z,2024-03-31T02:00:00Z,10\n\
2024-03-31,NEGPOS_04_08,2024-03-31T02:00:00Z,2024-03-31T06:00:00Z,20\n\
2024-03-31,NEGPOS_08_12,2024-03-31T07:00:00Z,2024-03-31T11:00:00Z,20\n\
2024-02-30,NEGPOS_08_12,2024-03-31T07:00:00Z,2024-03-31T11:00:00Z,20\n\
2024-03-31,EIGHT,2024-03-31T07:00:00Z,2024-03-31T11:00:00Z,20\n";
    let imported = import("regelleistung-fcr", text, &Options::default());
    assert_eq!(starts(&imported), ["03-30T23:00", "03-31T02:00"]);
    assert_eq!(refused(&imported).values().sum::<usize>(), 3);
    assert_eq!(
        refused(&imported)["utc_start or utc_end does not agree with date and product"],
        1
    );

    let german = "DATE_FROM;PRODUCTNAME;GERMANY_SETTLEMENTCAPACITY_PRICE_[EUR/MW]\n31.03.2024;POS_20_24;1.234,5\n";
    let imported = import("regelleistung-fcr", german, &Options::default());
    assert_eq!(
        floats(&imported, "germany_settlementcapacity_price_eur_mw"),
        [Some(1234.5)]
    );
    assert_eq!(starts(&imported), ["03-31T18:00"]);
}

#[test]
fn a_bid_ladder_keeps_equal_bids() {
    let text = "delivery_date_local,product,country,price,mw\n2024-01-01,NEG_00_04,AT,1,5\n2024-01-01,NEG_00_04,AT,1,5\n";
    assert_eq!(
        import("regelleistung-bids", text, &Options::default())
            .summary
            .rows_kept,
        2
    );
    assert_eq!(
        import("regelleistung-afrr", text, &Options::default())
            .summary
            .rows_kept,
        1
    );
}

#[test]
fn smard_reads_german_numbers_and_the_repeated_hour() {
    let text = "\u{feff}Datum von;Datum bis;Deutschland/Luxemburg [€/MWh] Originalauflösungen;∅ Anrainer [€/MWh]\n\
29.10.2023 01:00;29.10.2023 02:00;1.234,56;-\n\
29.10.2023 02:00;29.10.2023 02:00;-5,17;1\n\
29.10.2023 02:00;29.10.2023 03:00;0,00;2\n\
29.10.2023 03:00;29.10.2023 04:00;12.5;2\n";
    let imported = import("smard-csv", text, &Options::default());
    assert_eq!(
        starts(&imported),
        ["10-28T23:00", "10-29T00:00", "10-29T01:00"]
    );
    let column = "deutschland_luxemburg_eur_mwh_originalaufloesungen";
    assert_eq!(
        floats(&imported, column),
        [Some(1234.56), Some(-5.17), Some(0.0)]
    );
    assert_eq!(
        floats(&imported, "anrainer_eur_mwh"),
        [None, Some(1.0), Some(2.0)]
    );
    assert_eq!(
        refused(&imported),
        BTreeMap::from([("a value that is no finite number", 1)])
    );

    let english = "Start date;End date;Germany/Luxembourg [€/MWh] Original resolutions\n\"Jan 1, 2023 12:00 AM\";\"Jan 1, 2023 1:00 AM\";-5.17\n";
    let imported = import("smard-csv", english, &Options::default());
    assert_eq!(starts(&imported), ["12-31T23:00"]);
    let old = "Datum;Anfang;Ende;DE [€/MWh]\n26.03.2023;01:00;03:00;1,0\n26.03.2023;02:00;03:00;1,0\n26.03.2023;03:00;04:00;2,0\n";
    let imported = import("smard-csv", old, &Options::default());
    assert_eq!(starts(&imported), ["03-26T00:00", "03-26T01:00"]);
    assert_eq!(
        refused(&imported),
        BTreeMap::from([("start in the hour that the clock change skips", 1)])
    );
}

#[test]
fn entsoe_csv_reads_both_ages() {
    let old = "\"MTU (CET/CEST)\",\"Day-ahead Price [EUR/MWh]\",\"Currency\",\"BZN|NL\"\n\
\"29.10.2023 02:00 - 29.10.2023 03:00\",\"-5.17\",\"EUR\",\n\
\"29.10.2023 02:00 - 29.10.2023 03:00\",\"6\",\"EUR\",\n\
\"29.10.2023 03:00 - 29.10.2023 04:00\",\"n/e\",\"EUR\",\n";
    let imported = import("entsoe-csv", old, &Options::default());
    assert_eq!(starts(&imported), ["10-29T00:00", "10-29T01:00"]);
    assert_eq!(floats(&imported, "price_eur_mwh"), [Some(-5.17), Some(6.0)]);
    assert_eq!(refused(&imported), BTreeMap::from([("no price", 1)]));

    let new = "\"MTU (CET/CEST)\",\"Area\",\"Sequence\",\"Day-ahead Price (EUR/MWh)\",\"Intraday Period (CET/CEST)\",\"Intraday Price (EUR/MWh)\"\n\
\"26/10/2025 02:00:00 (CEST) - 26/10/2025 02:15:00 (CEST)\",\"BZN|NL\",\"Without Sequence\",\"1.5\",\"\",\"\"\n\
\"26/10/2025 02:00:00 (CET) - 26/10/2025 02:15:00 (CET)\",\"BZN|NL\",\"Without Sequence\",\"2.5\",\"\",\"\"\n";
    let imported = import("entsoe-csv", new, &Options::default());
    assert_eq!(starts(&imported), ["10-26T00:00", "10-26T01:00"]);
    let error = import_as(
        "entsoe-csv",
        "x.csv",
        "MTU (PST),Day-ahead Price\n",
        &Options::default(),
    )
    .unwrap_err();
    assert!(
        error.contains("x.csv:1: zone of \"MTU (PST)\", expected UTC"),
        "{error}"
    );
}

fn xml(curve: &str, points: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Publication_MarketDocument xmlns=\"urn:iec62325.351:tc57wg16:451-3:publicationdocument:7:3\">\n\
<period.timeInterval><start>2024-03-30T23:00Z</start><end>2024-03-31T02:00Z</end></period.timeInterval>\n\
<TimeSeries><mRID>1</mRID><currency_Unit.name>EUR</currency_Unit.name>\n<curveType>{curve}</curveType>\n\
<Period><timeInterval><start>2024-03-30T23:00Z</start>\n<end>2024-03-31T02:00Z</end></timeInterval><resolution>PT60M</resolution>\n{points}\n</Period></TimeSeries></Publication_MarketDocument>"
    )
}

#[test]
fn entsoe_xml_holds_positions_left_out_of_an_a03_curve() {
    let points = "<Point><position>1</position><price.amount>10.5</price.amount></Point>\n<Point><position>3</position><price.amount>-1</price.amount></Point>";
    let imported = import_as(
        "entsoe-xml",
        "x.xml",
        &xml("A03", points),
        &Options::default(),
    )
    .unwrap()
    .1;
    assert_eq!(
        starts(&imported),
        ["03-30T23:00", "03-31T00:00", "03-31T01:00"]
    );
    assert_eq!(
        floats(&imported, "price_eur_mwh"),
        [Some(10.5), Some(10.5), Some(-1.0)]
    );
    assert_eq!(repaired(&imported).values().sum::<usize>(), 1);
    let imported = import_as(
        "entsoe-xml",
        "x.xml",
        &xml("A01", points),
        &Options::default(),
    )
    .unwrap()
    .1;
    assert_eq!(
        imported.summary.rows_kept, 2,
        "an A01 curve with a hole stays with a hole"
    );
}

#[test]
fn entsoe_xml_names_the_line_of_what_is_wrong() {
    let bad = "<Point><position>1</position><price.amount>ten</price.amount></Point>\n<Point><position>9</position><price.amount>1</price.amount></Point>";
    let imported = import_as("entsoe-xml", "x.xml", &xml("A01", bad), &Options::default())
        .unwrap()
        .1;
    assert_eq!(imported.summary.rows_refused, 2);
    assert!(
        imported.summary.refused["a value that is no finite number"]
            .first
            .ends_with("x.xml:8"),
        "{:?}",
        imported.summary
    );
    let broken = xml("A01", "<Point><position>1</Point>");
    let error = import_as("entsoe-xml", "x.xml", &broken, &Options::default()).unwrap_err();
    assert!(error.contains("x.xml:8: not readable as XML"), "{error}");
    let cut = &xml("A01", bad)[..420];
    let error = import_as("entsoe-xml", "x.xml", cut, &Options::default()).unwrap_err();
    assert!(
        error.contains("x.xml:") && error.contains("expected"),
        "{error}"
    );
    let sorry = "<Acknowledgement_MarketDocument>\n<Reason><code>999</code>\n<text>No matching data found</text></Reason></Acknowledgement_MarketDocument>";
    let error = import_as("entsoe-xml", "x.xml", sorry, &Options::default()).unwrap_err();
    assert!(
        error.contains("x.xml:3: \"No matching data found\" instead of prices"),
        "{error}"
    );
}

#[test]
fn energy_charts_lists_become_rows() {
    let text = "{\"unix_seconds\":[1704063600,1704067200,1704070800,\"x\"],\n\"price\":[1.5,null,-2,3],\"unit\":\"EUR / MWh\",\"deprecated\":false}";
    let imported = import_as("energy-charts-json", "x.json", text, &Options::default())
        .unwrap()
        .1;
    assert_eq!(
        starts(&imported),
        ["12-31T23:00", "01-01T00:00", "01-01T01:00"]
    );
    assert_eq!(
        floats(&imported, "price_eur_mwh"),
        [Some(1.5), None, Some(-2.0)]
    );
    assert_eq!(imported.summary.rows_refused, 1);
    let error = import_as(
        "energy-charts-json",
        "x.json",
        "{\n\"price\": [1]\n",
        &Options::default(),
    )
    .unwrap_err();
    assert!(
        error.contains("x.json:") && error.contains("expected a JSON document"),
        "{error}"
    );
    let error = import_as(
        "energy-charts-json",
        "x.json",
        "{\"unix_seconds\":[1],\"price\":[]}",
        &Options::default(),
    )
    .unwrap_err();
    assert!(
        error.contains("x.json:1: 0 entries in price, expected 1"),
        "{error}"
    );
}

#[test]
fn assumptions_are_checked() {
    use frames::import::Assume;
    for (text, part) in [
        ("capacity_kwh", "expected KEY=NUMBER"),
        ("battery=60", "unknown key"),
        ("capacity_kwh=abc", "expected a number from 0.1"),
        ("departure_fraction=1.2", "from 0 to 1"),
        ("capacity_kwh=nan", "expected a number"),
    ] {
        let error = text.parse::<Assume>().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

fn feed(tables: &[(&str, &str)]) -> (TempDir, PathBuf) {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("feed.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&file).unwrap());
    for (name, text) in tables {
        zip.start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    (dir, file)
}

const FEED: [(&str, &str); 4] = [
    ("routes.txt", "route_id,route_type\nb,3\ntram,0\n"),
    (
        "stops.txt",
        "stop_id,stop_lat,stop_lon\n1,52.0,4.0\n2,52.1,4.0\n",
    ),
    (
        "trips.txt",
        "route_id,service_id,trip_id,block_id\nb,week,t1,100\nb,week,t2,100\nb,week,t3,\ntram,week,t4,7\nb,week,t5,8\n",
    ),
    (
        "stop_times.txt",
        "trip_id,arrival_time,departure_time,stop_id,stop_sequence\nt1,08:30:00,08:30:00,2,9\nt1,08:00:00,08:00:00,1,1\nt1,,,1,5\n\
t2,23:50:00,23:50:00,2,1\nt2,24:20:00,24:20:00,1,2\nt3,08:00:00,08:00:00,1,1\nt5,eight,08:00:00,1,1\n",
    ),
];

#[test]
fn gtfs_sums_bus_trips_by_block() {
    let (_dir, file) = feed(&FEED);
    let imported = Format::named("gtfs")
        .unwrap()
        .read(&[file], &Options::default())
        .unwrap();
    assert_eq!(
        refused(&imported),
        BTreeMap::from([
            ("no block_id", 1),
            ("not a bus (route_type)", 1),
            ("no stop times, or a time that is no HH:MM:SS", 1)
        ])
    );
    let text = |name| match imported.table.column(name) {
        Some(Column::Text(values)) => values[0].clone().unwrap(),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(
        (
            imported.table.rows(),
            text("start_local"),
            text("end_local")
        ),
        (1, "08:00:00".into(), "24:20:00".into())
    );
    assert_eq!(floats(&imported, "driving_hours"), [Some(1.0)]);
    let km = floats(&imported, "straight_km")[0].unwrap();
    assert!((km - 22.239).abs() < 0.01, "{km}");
}

#[test]
fn an_incomplete_feed_is_refused_by_the_table_that_lacks() {
    let (_dir, file) = feed(&FEED[..3]);
    let error = Format::named("gtfs")
        .unwrap()
        .read(&[file], &Options::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("feed.zip/stop_times.txt: cannot be read")
            && error.contains("expected this table"),
        "{error}"
    );
    let error = import_as("gtfs", "x.zip", "no zip", &Options::default()).unwrap_err();
    assert!(error.contains("x.zip: not readable as zip"), "{error}");
}
