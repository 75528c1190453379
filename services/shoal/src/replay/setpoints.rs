//! Set-points, decided again from what the dispatcher wrote down of each cycle.

use std::collections::BTreeMap;

use shoal_gateway::replay::{Replay, ReplayError};
use store::{Log, NewRecord, Position, Record, topic};
use units::Interval;
use wire::proto::dispatch::v1::decision::Decision as Kinds;
use wire::proto::dispatch::v1::taken::Taken;
use wire::proto::dispatch::v1::{Decision, Read, Setpoint, Snapshot, Step};

use super::Failed;
use super::found::{Kind, parting};
use super::topics::Topics;

/// Set-points of the day by id, as they are on the log.
type Told = BTreeMap<String, Record>;

/// What one holder of the office wrote down: everything it knew, then cycle by cycle.
#[derive(Default)]
struct Run {
    snapshot: Option<Snapshot>,
    /// With their numbers.
    steps: Vec<(u64, Step)>,
    /// Of the snapshot.
    number: u64,
}

/// Compares the set-points of `day`.
pub(super) async fn replay(log: &Log, day: Interval) -> Result<Kind, Failed> {
    let mut kind = Kind::default();
    let mut told = told(log, day, &mut kind).await?;
    for (name, run) in runs(log, day, &mut kind).await? {
        let ended = again(log, &name, run, day, &mut told, &mut kind).await?;
        if let Err(error) = ended {
            kind.differs(name, error.to_string());
        }
    }
    let left = told.len() as u64;
    if kind.why_not_checked.is_some() {
        kind.not_checked += left;
    } else if let Some((id, record)) = told.into_iter().next() {
        let what = format!("no decision on the log gives record {}", record.offset);
        kind.differs(id, what);
        kind.differences += left - 1;
    }
    Ok(kind)
}

async fn told(log: &Log, day: Interval, kind: &mut Kind) -> Result<Told, Failed> {
    let mut told = Told::new();
    let mut reader = Topics::open(log, topic::SETPOINTS, &Position::default()).await?;
    loop {
        let batch = reader.next().await?;
        if batch.is_empty() {
            return Ok(told);
        }
        for record in batch {
            match wire::decode::<Setpoint>(&record.payload) {
                Ok(setpoint) if within(day, setpoint.issued_at_micros) => {
                    // Kafka may hold what was appended twice.
                    told.insert(setpoint.id, record);
                }
                Ok(_) => {}
                Err(error) => kind.differs(format!("record {}", record.offset), error.to_string()),
            }
        }
    }
}

fn within(day: Interval, micros: i64) -> bool {
    (day.start().timestamp_micros()..day.end().timestamp_micros()).contains(&micros)
}

/// What was written down of the day, from the last snapshot before it on.
async fn runs(log: &Log, day: Interval, kind: &mut Kind) -> Result<BTreeMap<String, Run>, Failed> {
    let mut runs: BTreeMap<String, Run> = BTreeMap::new();
    let (begins, ends) = (day.start().timestamp_micros(), day.end().timestamp_micros());
    let mut reader = Topics::open(log, topic::DECISIONS, &Position::default()).await?;
    loop {
        let batch = reader.next().await?;
        if batch.is_empty() {
            break;
        }
        for record in batch {
            let Ok(decision) = wire::decode::<Decision>(&record.payload) else {
                kind.differs(format!("record {}", record.offset), "is no decision");
                continue;
            };
            let run = runs.entry(decision.run).or_default();
            match decision.decision {
                Some(Kinds::Snapshot(snapshot))
                    if snapshot.at_micros <= begins || run.snapshot.is_none() =>
                {
                    *run = Run {
                        snapshot: Some(snapshot),
                        steps: Vec::new(),
                        number: decision.number,
                    };
                }
                // One within the day says nothing that the steps do not say.
                Some(Kinds::Snapshot(snapshot)) if snapshot.at_micros < ends => {
                    run.steps.push((decision.number, Step::default()));
                }
                Some(Kinds::Step(step)) if step.at_micros < ends => {
                    run.steps.push((decision.number, step));
                }
                Some(Kinds::Snapshot(_) | Kinds::Step(_)) | None => {}
            }
        }
    }
    // Two cycles at once may come in either order.
    for run in runs.values_mut() {
        run.steps.sort_by_key(|(number, _)| *number);
        run.steps.dedup_by_key(|(number, _)| *number);
    }
    Ok(runs)
}

/// Decides what one holder of the office decided.
async fn again(
    log: &Log,
    name: &str,
    run: Run,
    day: Interval,
    told: &mut Told,
    kind: &mut Kind,
) -> Result<Result<(), ReplayError>, Failed> {
    let Some(snapshot) = run.snapshot else {
        kind.unchecked(1, format!("how run {name} began is no longer on the log"));
        return Ok(Ok(()));
    };
    let mut replay = match Replay::from(&snapshot) {
        Ok(replay) => replay,
        Err(error) => return Ok(Err(error)),
    };
    let mut before = run.number;
    let from = position(&snapshot.fleet_read);
    let mut states = Topics::open(log, topic::FLEET_STATE, &from).await?;
    for (number, step) in run.steps {
        if number != before + 1 {
            kind.unchecked(
                1,
                format!("decision {} of run {name} is not on the log", before + 1),
            );
            return Ok(Ok(()));
        }
        before = number;
        if step.at_micros == 0 {
            continue;
        }
        for taken in step.taken.iter().filter_map(|t| t.taken.as_ref()) {
            if let Err(why) = hand_over(log, &mut replay, &mut states, taken).await? {
                kind.unchecked(1, why);
                return Ok(Ok(()));
            }
        }
        let records = match replay.cycle(&step) {
            Ok(records) => records,
            Err(error) => return Ok(Err(error)),
        };
        if within(day, step.at_micros) {
            compare(&step, &records, told, kind);
        }
    }
    Ok(Ok(()))
}

fn position(reads: &[Read]) -> Position {
    let mut position = Position::default();
    for read in reads {
        position.advance(read.partition, read.offset);
    }
    position
}

/// Gives what came in before a cycle to the dispatcher; the inner error is why that cannot be done.
async fn hand_over(
    log: &Log,
    replay: &mut Replay,
    states: &mut Topics,
    taken: &Taken,
) -> Result<Result<(), String>, Failed> {
    match taken {
        Taken::Fleet(fleet) => {
            let (records, gone) = states.up_to(&fleet.read).await?;
            if let Some(gone) = gone {
                return Ok(Err(gone.to_string()));
            }
            records.iter().for_each(|record| replay.fleet(record));
            Ok(Ok(()))
        }
        Taken::Plan(plan) => {
            let read = plan.read.unwrap_or_default();
            let before = Position::at(read.partition, read.offset.saturating_sub(1));
            let mut plans = Topics::open(log, topic::PLANS, &before).await?;
            let (records, gone) = plans.up_to(&[read]).await?;
            let (Some(record), None) = (records.last(), &gone) else {
                let why = gone.map_or_else(String::new, |gone| gone.to_string());
                return Ok(Err(why));
            };
            Ok(replay
                .plan(record, plan.said_at_micros)
                .map_err(|error| error.to_string()))
        }
        other @ (Taken::Sites(_) | Taken::Award(_) | Taken::Signal(_) | Taken::Order(_)) => {
            Ok(replay.take(other).map_err(|error| error.to_string()))
        }
    }
}

fn compare(step: &Step, records: &[NewRecord], told: &mut Told, kind: &mut Kind) {
    if records.len() != step.setpoints as usize {
        let what = format!(
            "decided {} set-points then, {} now",
            step.setpoints,
            records.len()
        );
        kind.differs(format!("cycle {}", step.at_micros), what);
    }
    for record in records {
        let Ok(again) = wire::decode::<Setpoint>(&record.payload) else {
            continue;
        };
        match told.remove(&again.id) {
            Some(logged) if logged.payload == record.payload && logged.key == record.key => {
                kind.found_again += 1;
            }
            Some(logged) => {
                let what = wire::decode::<Setpoint>(&logged.payload)
                    .map_or_else(|e| e.to_string(), |logged| parting(&logged, &again));
                kind.differs(again.id, what);
            }
            // Nobody knows whether the log took it.
            None if step.untold => {}
            None => kind.differs(again.id, "is not on the log"),
        }
    }
}
