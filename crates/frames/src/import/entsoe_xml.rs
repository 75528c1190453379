//! Day-ahead prices of ENTSO-E as XML (`Publication_MarketDocument`, document type A44).

use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use quick_xml::Reader;
use quick_xml::events::Event;

use super::series::{NO_NUMBER, Series, SeriesRow};
use super::tally::Tally;
use crate::InputError;
use crate::records::{parse_instant, read_text};

const NO_POSITION: &str = "position is missing or outside its period";
/// A period is at most a year of quarter hours; a longer one is a mistake that would fill the memory.
const LONGEST_PERIOD: i64 = 40_000;

/// The period being read.
#[derive(Debug, Clone, Default)]
struct Period {
    start: Option<DateTime<Utc>>,
    end: Option<DateTime<Utc>>,
    resolution: Option<TimeDelta>,
    points: Vec<Point>,
    line: u64,
}

#[derive(Debug, Clone, Default)]
struct Point {
    position: Option<i64>,
    price: Option<String>,
    line: u64,
}

/// Reading of one document.
struct Document<'a> {
    file: &'a Path,
    text: &'a str,
    path: Vec<String>,
    period: Period,
    currency: String,
    sequence: String,
    /// Positions left out repeat the one before them.
    holds: bool,
    periods: usize,
}

/// Reads every period of every time series. In a series of curve type A03 a missing position repeats the one before it.
pub(crate) fn read(files: &[PathBuf], tally: &mut Tally) -> Result<Series, InputError> {
    let mut series = Series::default();
    for file in files {
        let text = read_text(file)?;
        let mut document = Document::new(file, &text);
        document.read(&mut series, tally)?;
        if document.periods == 0 {
            return Err(InputError::line(
                file,
                1,
                "no Period, expected a Publication_MarketDocument with prices",
            ));
        }
    }
    Ok(series)
}

impl<'a> Document<'a> {
    const fn new(file: &'a Path, text: &'a str) -> Self {
        Self {
            file,
            text,
            path: Vec::new(),
            period: Period {
                start: None,
                end: None,
                resolution: None,
                points: Vec::new(),
                line: 0,
            },
            currency: String::new(),
            sequence: String::new(),
            holds: false,
            periods: 0,
        }
    }

    fn line(&self, offset: u64) -> u64 {
        let offset = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.text.len());
        1 + self.text.as_bytes()[..offset]
            .iter()
            .filter(|b| **b == b'\n')
            .count() as u64
    }

    fn read(&mut self, series: &mut Series, tally: &mut Tally) -> Result<(), InputError> {
        let mut reader = Reader::from_str(self.text);
        let mut line = 1;
        let mut offset = 0;
        let mut content = String::new();
        loop {
            let event = reader.read_event();
            let now = usize::try_from(reader.buffer_position())
                .unwrap_or(0)
                .min(self.text.len());
            let passed = self.text.as_bytes().get(offset..now).unwrap_or_default();
            let here = line;
            line += passed.iter().filter(|b| **b == b'\n').count() as u64;
            offset = now;
            match event {
                Err(error) => {
                    let at = self.line(reader.error_position());
                    let what =
                        format!("not readable as XML ({error}), expected a complete document");
                    return Err(InputError::line(self.file, at, what));
                }
                Ok(Event::Eof) if self.path.is_empty() => return Ok(()),
                Ok(Event::Eof) => {
                    let open = self.path.last().map_or("", String::as_str);
                    let what = format!("the document ends inside <{open}>, expected its end");
                    return Err(InputError::line(self.file, line, what));
                }
                Ok(Event::Start(tag)) => {
                    content.clear();
                    self.open(tag.local_name().into_inner(), here);
                }
                Ok(Event::Text(text)) => content.push_str(&text.xml10_content()),
                Ok(Event::CData(text)) => content.push_str(&text.xml10_content()),
                Ok(Event::End(_)) => {
                    self.close(content.trim(), here, series, tally)?;
                    content.clear();
                }
                Ok(_) => {}
            }
        }
    }

    fn open(&mut self, name: &str, line: u64) {
        match name {
            "TimeSeries" => {
                self.currency.clear();
                self.sequence.clear();
                self.holds = false;
            }
            "Period" => {
                self.period = Period {
                    line,
                    ..Period::default()
                }
            }
            "Point" => self.period.points.push(Point {
                line,
                ..Point::default()
            }),
            _ => {}
        }
        self.path.push(name.to_owned());
    }

    fn close(
        &mut self,
        content: &str,
        line: u64,
        series: &mut Series,
        tally: &mut Tally,
    ) -> Result<(), InputError> {
        let name = self.path.pop().unwrap_or_default();
        let parent = self.path.last().map_or("", String::as_str);
        match (parent, name.as_str()) {
            ("Reason", "text") => {
                let what =
                    format!("{content:?} instead of prices, expected a Publication_MarketDocument");
                return Err(InputError::line(self.file, line, what));
            }
            ("TimeSeries", "currency_Unit.name") => self.currency = content.to_ascii_lowercase(),
            ("TimeSeries", "classificationSequence_AttributeInstanceComponent.position") => {
                content.clone_into(&mut self.sequence);
            }
            ("TimeSeries", "curveType") => self.holds = content == "A03",
            ("timeInterval", "start") if self.in_period() => {
                self.period.start = parse_instant(content)
            }
            ("timeInterval", "end") if self.in_period() => self.period.end = parse_instant(content),
            ("Period", "resolution") => self.period.resolution = resolution(content),
            ("Point", "position") => {
                if let Some(point) = self.period.points.last_mut() {
                    point.position = content.parse().ok();
                }
            }
            ("Point", "price.amount") => {
                if let Some(point) = self.period.points.last_mut() {
                    point.price = Some(content.to_owned());
                }
            }
            (_, "Period") => self.finish_period(series, tally)?,
            _ => {}
        }
        Ok(())
    }

    fn in_period(&self) -> bool {
        self.path.iter().any(|p| p == "Period")
    }

    fn finish_period(&mut self, series: &mut Series, tally: &mut Tally) -> Result<(), InputError> {
        let period = std::mem::take(&mut self.period);
        self.periods += 1;
        let whole = period.start.zip(period.end).zip(period.resolution);
        let Some(((start, end), step)) = whole.filter(|((start, end), _)| end > start) else {
            let what = "a Period without start, end and resolution, expected timeInterval and PT15M, PT30M or PT60M";
            return Err(InputError::line(self.file, period.line, what));
        };
        let count = (end - start).num_seconds() / step.num_seconds();
        if count > LONGEST_PERIOD {
            let what = format!("a Period of {count} positions, expected at most {LONGEST_PERIOD}");
            return Err(InputError::line(self.file, period.line, what));
        }
        if series.numbers.is_empty() {
            let currency = if self.currency.is_empty() {
                "eur"
            } else {
                &self.currency
            };
            series.numbers = vec![format!("price_{currency}_mwh")];
            series.texts = vec!["sequence".to_owned()];
        }
        let mut done = 0_i64;
        let mut last = None;
        for point in &period.points {
            tally.read();
            let at = format!("{}:{}", self.file.display(), point.line);
            let (position, price) = match checked(point, done, count) {
                Ok(pair) => pair,
                Err(reason) => {
                    tally.refuse(reason, &at);
                    continue;
                }
            };
            let from = if self.holds && last.is_some() {
                done + 1
            } else {
                position
            };
            for held in from..position {
                self.push(series, tally, (start, step, held), last, at.clone());
                tally.read();
                tally.repair(HELD, &at);
            }
            self.push(series, tally, (start, step, position), Some(price), at);
            (done, last) = (position, Some(price));
        }
        let tail = format!("{}:{}", self.file.display(), period.line);
        if self.holds && last.is_some() {
            for held in done + 1..=count {
                self.push(series, tally, (start, step, held), last, tail.clone());
                tally.read();
                tally.repair(HELD, &tail);
            }
        }
        Ok(())
    }

    fn push(
        &self,
        series: &mut Series,
        tally: &mut Tally,
        (start, step, position): (DateTime<Utc>, TimeDelta, i64),
        price: Option<f64>,
        at: String,
    ) {
        let steps = i32::try_from(position - 1).unwrap_or(i32::MAX);
        let row = SeriesRow {
            start: start + step * steps,
            end: None,
            texts: vec![self.sequence.clone()],
            numbers: vec![price],
            at,
        };
        series.push(row, tally);
    }
}

const HELD: &str =
    "position left out of an A03 curve: the value before it holds, as the standard says";

fn checked(point: &Point, done: i64, count: i64) -> Result<(i64, f64), &'static str> {
    let position = point
        .position
        .filter(|p| *p > done && *p <= count)
        .ok_or(NO_POSITION)?;
    let price = point.price.as_deref().and_then(|p| p.parse::<f64>().ok());
    Ok((position, price.filter(|p| p.is_finite()).ok_or(NO_NUMBER)?))
}

fn resolution(text: &str) -> Option<TimeDelta> {
    match text {
        "PT15M" => Some(TimeDelta::minutes(15)),
        "PT30M" => Some(TimeDelta::minutes(30)),
        "PT60M" | "PT1H" => Some(TimeDelta::hours(1)),
        _ => None,
    }
}
