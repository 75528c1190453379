use super::*;
use units::Power;

const TIMEOUT: Duration = Duration::from_secs(10);

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn station() -> StationId {
    "S".parse().unwrap()
}

fn setpoint(name: &str, seconds: i64) -> Setpoint {
    Setpoint {
        id: name.parse().unwrap(),
        evse: "S/1".parse().unwrap(),
        power: Power::from_watts(4_000),
        mode: fleet::Mode::default(),
        issued_at: at(seconds),
        expires_at: at(seconds + 600),
        signal: None,
        reason: String::new(),
    }
}

fn names(due: &Due) -> Vec<&str> {
    due.undelivered.iter().map(|s| s.id.as_str()).collect()
}

#[test]
fn the_edge_that_a_station_left_says_so_once_and_the_other_says_nothing() {
    let (last, other) = (Absent::new(TIMEOUT), Absent::new(TIMEOUT));
    last.left(&station(), at(0));
    last.heard("S", false, at(0));
    for edge in [&last, &other] {
        assert!(edge.wait(&station(), 1, setpoint("sp", 5), false));
        assert!(edge.concerns("S") && edge.concerns("S/1"));
        assert_eq!(edge.due(at(34)), Due::default(), "it may come back");
    }
    assert_eq!(names(&last.due(at(35))), ["sp"]);
    other.answered(&"S/1".parse().unwrap(), &"sp".parse().unwrap());
    for second in 35..600 {
        assert_eq!(last.due(at(second)), Due::default());
        assert_eq!(other.due(at(second)), Due::default());
    }
    assert!(!other.concerns("S/1") && !other.concerns("S"));
}

#[test]
fn a_station_that_comes_back_in_time_gets_its_set_points_and_one_that_comes_late_does_not() {
    let edge = Absent::new(TIMEOUT);
    edge.wait(&station(), 2, setpoint("late", 0), false);
    edge.wait(&station(), 2, setpoint("timely", 10), false);
    let taken = edge.came(&station(), at(25));
    assert_eq!(taken, [(2, setpoint("timely", 10))]);
    assert!(edge.concerns("S/1"), "somebody else's to answer");
}

#[test]
fn room_is_bounded_and_what_nobody_answers_is_forgotten() {
    let edge = Absent::new(TIMEOUT);
    for n in 0..MOST {
        assert!(edge.wait(&station(), 1, setpoint(&format!("sp-{n}"), 0), false));
    }
    assert!(!edge.wait(&station(), 1, setpoint("more", 0), false));
    let claims = edge.due(at(100)).claims;
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].0, station());
    assert_eq!(edge.due(at(700)).forgotten, MOST);
    assert!(edge.wait(&station(), 1, setpoint("more", 700), false));
}

/// Stations `S000`, `S001`, ... with a set-point each that nobody answers.
fn unanswered(edge: &Absent, count: usize) {
    for n in 0..count {
        let station: StationId = format!("S{n:03}").parse().unwrap();
        let evse = format!("S{n:03}/1").parse().unwrap();
        let setpoint = Setpoint {
            evse,
            ..setpoint(&format!("sp-{n}"), 0)
        };
        assert!(edge.wait(&station, 1, setpoint, false));
    }
}

#[test]
fn an_edge_that_is_gone_is_found_out_step_by_step_and_all_its_stations_are_claimed() {
    let edge = Absent::new(TIMEOUT);
    unanswered(&edge, 100);
    let claims = |second| edge.due(at(second)).claims.len();
    let made: Vec<usize> = (60..67).map(claims).collect();
    assert_eq!(made, [1, 2, 4, 8, 16, 32, 37]);
    assert_eq!(claims(67), 0);
}

#[test]
fn an_edge_that_is_slow_contradicts_the_first_claim_and_no_others_follow() {
    let edge = Absent::new(TIMEOUT);
    unanswered(&edge, 100);
    let mut claimed = std::collections::BTreeSet::new();
    for second in 60..160 {
        let claims = edge.due(at(second)).claims;
        assert_eq!(claims.len(), 1, "after {second} s");
        for (station, instant) in claims {
            edge.heard(station.as_str(), false, instant);
            // Its edge has it, and says so again.
            edge.heard(station.as_str(), true, instant + TimeDelta::milliseconds(5));
            claimed.insert(station);
        }
    }
    assert_eq!(claimed.len(), 100, "each is asked for in its turn");
}

#[test]
fn an_answer_that_is_read_before_its_set_point_counts() {
    let edge = Absent::new(TIMEOUT);
    let (evse, told) = ("S/1".parse().unwrap(), setpoint("sp", 0));
    edge.answered(&evse, &told.id);
    assert!(edge.wait(&station(), 1, told, false));
    assert!(!edge.concerns("S/1") && !edge.concerns("S"));
    // Others of the same outlet are waited for, and an answer that comes first does not lose them.
    edge.wait(&station(), 1, setpoint("first", 0), false);
    edge.answered(&evse, &"second".parse().unwrap());
    edge.wait(&station(), 1, setpoint("second", 1), false);
    assert_eq!(edge.due(at(60)).claims.len(), 1);
    edge.answered(&evse, &"first".parse().unwrap());
    assert!(!edge.concerns("S/1"));
}
