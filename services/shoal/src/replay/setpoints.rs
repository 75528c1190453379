//! Set-points, decided again from what the dispatcher wrote down of each cycle.

use std::collections::BTreeMap;

use shoal_gateway::replay::{Replay, ReplayError};
use store::{Log, NewRecord, Position, Record, topic};
use units::Interval;
use wire::proto::dispatch::v1::decision::Decision as Kinds;
use wire::proto::dispatch::v1::taken::Taken;
use wire::proto::dispatch::v1::{Decision, Read, Setpoint, Step};

use super::found::{Kind, parting};
use super::topics::Topics;
use super::{Failed, within};

/// Set-points of the day by id, as they are on the log.
type Told = BTreeMap<String, Record>;

/// What one holder of the office wrote down: everything it knew, then cycle by cycle, each with its number.
type Run = Vec<(u64, Kinds)>;

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
            let (Some(said), run) = (decision.decision, runs.entry(decision.run).or_default())
            else {
                continue;
            };
            let at = match &said {
                Kinds::Snapshot(snapshot) => snapshot.at_micros,
                Kinds::Step(step) => step.at_micros,
            };
            if matches!(said, Kinds::Snapshot(_)) && at <= begins {
                run.clear();
            }
            if at < ends {
                run.push((decision.number, said));
            }
        }
    }
    // Two cycles at once may come in either order.
    for run in runs.values_mut() {
        run.sort_by_key(|(number, _)| *number);
        run.dedup_by_key(|(number, _)| *number);
    }
    Ok(runs)
}

/// A dispatcher in the middle of a run.
struct Under {
    replay: Replay,
    states: Topics,
    /// Of what it did last.
    number: u64,
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
    let mut under: Option<Under> = None;
    for (number, said) in run {
        let follows = under
            .as_ref()
            .is_some_and(|under| number == under.number + 1);
        match said {
            // One in the middle, too: what came in between it and the cycle before stands in it alone.
            Kinds::Snapshot(snapshot) => {
                let replay = match Replay::from(&snapshot) {
                    Ok(replay) => replay,
                    Err(error) => return Ok(Err(error)),
                };
                let from = position(&snapshot.fleet_read);
                let states = Topics::open(log, topic::FLEET_STATE, &from).await?;
                under = Some(Under {
                    replay,
                    states,
                    number,
                });
            }
            Kinds::Step(step) => {
                let Some(state) = under.as_mut().filter(|_| follows) else {
                    // Until the next snapshot nobody knows what the dispatcher knew.
                    under = None;
                    let missing = number.saturating_sub(1);
                    let setpoints = if within(day, step.at_micros) {
                        step.setpoints
                    } else {
                        0
                    };
                    let why = format!("decision {missing} of run {name} is not on the log");
                    kind.unchecked(setpoints.into(), why);
                    forget(&step, told);
                    continue;
                };
                if let Err(why) = take_in(log, state, &step).await? {
                    kind.unchecked(1, why);
                    return Ok(Ok(()));
                }
                match state.replay.cycle(&step) {
                    Ok(records) if within(day, step.at_micros) => {
                        compare(&step, &records, told, kind);
                    }
                    Ok(_) => {}
                    Err(error) => return Ok(Err(error)),
                }
            }
        }
        if let Some(under) = &mut under {
            under.number = number;
        }
    }
    Ok(Ok(()))
}

/// Gives the dispatcher what came in before a cycle; the inner error is why that cannot be done.
async fn take_in(log: &Log, under: &mut Under, step: &Step) -> Result<Result<(), String>, Failed> {
    for taken in step.taken.iter().filter_map(|t| t.taken.as_ref()) {
        let done = hand_over(log, &mut under.replay, &mut under.states, taken).await?;
        if done.is_err() {
            return Ok(done);
        }
    }
    Ok(Ok(()))
}

/// The set-points of a cycle that cannot be checked are counted once.
fn forget(step: &Step, told: &mut Told) {
    let prefix = format!("{}-", step.at_micros);
    told.retain(|id, _| !id.starts_with(&prefix));
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
