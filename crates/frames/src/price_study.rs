//! Scenarios of `shoal forecast evaluate` about day-ahead prices: past prices, what was published before each gate, and a published
//! forecast to compare with.

use std::path::Path;

use chrono::{NaiveDate, NaiveDateTime, Timelike};
use toml::de::DeTable;

use crate::InputError;
use crate::history::table;
use crate::records::{Records, read_text};
use crate::tree::{Branch, Leaf, Source};

/// Clock hours of a day; days of 23 and 25 hours are given 24 by whoever published them.
pub const HOURS: usize = 24;

/// One day, by the local clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    /// Local date.
    pub date: NaiveDate,
    /// Price per `MWh` of every clock hour.
    pub price: [f64; HOURS],
    /// Every series known before the gate, in the order of [`PriceStudy::known`].
    pub known: Vec<[f64; HOURS]>,
    /// A published point forecast, if the scenario names one.
    pub published: Option<[f64; HOURS]>,
}

/// A scenario with its days read.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceStudy {
    /// Name.
    pub name: String,
    /// Area whose public holidays count.
    pub area: String,
    /// First local date no longer forecast; the day after the last if `None`.
    pub test_to: Option<NaiveDate>,
    /// Names of the series known before the gate.
    pub known: Vec<String>,
    /// Days without a hole between them.
    pub days: Vec<Day>,
}

/// Whether the scenario at `file` is about prices: it has a table `[price]`.
///
/// # Errors
/// [`InputError`] for a file that is no TOML.
pub fn is_one(file: &Path) -> Result<bool, InputError> {
    let text = read_text(file)?;
    let source = Source { file, text: &text };
    let tree = DeTable::parse(&text).map_err(|e| source.refuse(&e))?;
    Ok(tree.get_ref().keys().any(|key| key.get_ref() == "price"))
}

/// Reads the scenario at `file`. Tables named under `data` are looked for below `data_dir`.
///
/// # Errors
/// [`InputError`] for the first thing that is not as it should be, by file, line and key.
pub fn load(file: &Path, data_dir: &Path) -> Result<PriceStudy, InputError> {
    let text = read_text(file)?;
    let source = Source { file, text: &text };
    let tree = DeTable::parse(&text).map_err(|e| source.refuse(&e))?;
    let mut root = Branch::root(source, tree.get_ref());
    let name = root.need("name", "a name")?.text("a name")?.to_owned();
    let area = root.need("area", "a market area, as in \"DE\"")?;
    let area = area.text("a market area, as in \"DE\"")?.to_owned();
    let test_to = root.get("test_to").map(|leaf| leaf.date()).transpose()?;
    let price = root.need("price", "a table [price] with the past prices")?;
    let mut price = price.branch("a table")?;
    let path = table(&mut price, file, data_dir)?;
    let column = |branch: &mut Branch<'_>, key: &'static str| -> Result<String, InputError> {
        let leaf = branch.need(key, "the name of a column")?;
        Ok(leaf.text("the name of a column")?.to_owned())
    };
    let clock = column(&mut price, "clock")?;
    let value = column(&mut price, "value")?;
    let known = price.get("known").map_or(Ok(Vec::new()), |leaf| {
        let name = |l: &Leaf<'_>| l.text("the name of a column").map(ToOwned::to_owned);
        leaf.list().iter().map(name).collect::<Result<_, _>>()
    })?;
    let published = price
        .get("published")
        .map(|leaf| leaf.text("the name of a column").map(ToOwned::to_owned))
        .transpose()?;
    price.finish()?;
    root.finish()?;
    let columns = Columns {
        clock,
        value,
        known,
        published,
    };
    Ok(PriceStudy {
        name,
        area,
        test_to,
        days: days(&path, &columns)?,
        known: columns.known,
    })
}

struct Columns {
    clock: String,
    value: String,
    known: Vec<String>,
    published: Option<String>,
}

/// The rows of a file, hour after hour from a midnight on, as days.
fn days(path: &Path, columns: &Columns) -> Result<Vec<Day>, InputError> {
    let mut records = Records::open(path)?;
    let clock = records.column(&columns.clock)?;
    let value = records.column(&columns.value)?;
    let mut known = Vec::new();
    for name in &columns.known {
        known.push(records.column(name)?);
    }
    let published = match &columns.published {
        Some(name) => Some(records.column(name)?),
        None => None,
    };
    let mut days: Vec<Day> = Vec::new();
    let mut hour = HOURS;
    while let Some(row) = records.next()? {
        let at = NaiveDateTime::parse_from_str(row.text(clock), "%Y-%m-%d %H:%M:%S");
        let expected = match days.last() {
            Some(day) if hour < HOURS => Some((day.date, hour)),
            Some(day) => day.date.succ_opt().map(|next| (next, 0)),
            None => None,
        };
        let met = at
            .ok()
            .and_then(|t| Some((t.date(), usize::try_from(t.hour()).ok()?)))
            .filter(|met| expected.map_or(met.1 == 0, |e| *met == e));
        let Some((date, now)) = met else {
            let wanted = expected.map_or_else(
                || "a midnight, as in 2019-01-01 00:00:00".to_owned(),
                |(date, hour)| format!("{date} {hour:02}:00:00, the hour after the row before"),
            );
            let text = row.text(clock);
            return Err(row.error(format!("{} is {text:?}, expected {wanted}", columns.clock)));
        };
        if now == 0 {
            days.push(Day {
                date,
                price: [0.0; HOURS],
                known: vec![[0.0; HOURS]; known.len()],
                published: published.map(|_| [0.0; HOURS]),
            });
        }
        let Some(day) = days.last_mut() else { continue };
        day.price[now] = row.required(value)?;
        for (series, column) in day.known.iter_mut().zip(&known) {
            series[now] = row.required(*column)?;
        }
        if let (Some(series), Some(column)) = (&mut day.published, published) {
            series[now] = row.required(column)?;
        }
        hour = now + 1;
    }
    if hour < HOURS {
        return Err(InputError::file(
            path,
            format!("the last day ends after {hour} hours, expected {HOURS}"),
        ));
    }
    if days.is_empty() {
        return Err(InputError::file(path, "no row, expected days of 24 hours"));
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    const STUDY: &str = "name = \"two days\"\narea = \"DE\"\n[price]\nfile = \"p.csv\"\nclock = \"clock\"\nvalue = \"eur\"\nknown = [\"load\"]\npublished = \"lear\"\n";

    fn rows(hours: std::ops::Range<usize>) -> String {
        let mut text = "clock,eur,load,lear\n".to_owned();
        for hour in hours {
            let (day, hour) = (1 + hour / 24, hour % 24);
            writeln!(
                text,
                "2019-01-{day:02} {hour:02}:00:00,{hour}.5,4{hour},{day}"
            )
            .unwrap();
        }
        text
    }

    fn read(study: &str, rows: &str) -> Result<PriceStudy, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("p.csv"), rows).unwrap();
        let file = dir.path().join("s.toml");
        std::fs::write(&file, study).unwrap();
        assert!(is_one(&file).unwrap());
        load(&file, dir.path()).map_err(|e| e.to_string())
    }

    #[test]
    fn days_are_read_with_what_was_known_and_what_was_published() {
        let study = read(STUDY, &rows(0..48)).unwrap();
        assert_eq!(study.days.len(), 2);
        let day = &study.days[1];
        assert_eq!(day.date, NaiveDate::from_ymd_opt(2019, 1, 2).unwrap());
        assert!((day.price[23] - 23.5).abs() < 1e-12);
        assert!((day.known[0][0] - 40.0).abs() < 1e-12);
        assert!((day.published.unwrap()[5] - 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_missing_hour_a_half_day_and_a_missing_column_are_named() {
        let hole = rows(0..48).replace("2019-01-01 05:00:00", "2019-01-01 06:00:00");
        let error = read(STUDY, &hole).unwrap_err();
        assert!(
            error.contains("p.csv:7") && error.contains("05:00:00"),
            "{error}"
        );
        let error = read(STUDY, &rows(0..30)).unwrap_err();
        assert!(error.contains("after 6 hours"), "{error}");
        let error = read(&STUDY.replace("\"lear\"", "\"leer\""), &rows(0..48)).unwrap_err();
        assert!(error.contains("column \"leer\""), "{error}");
        let error = read(&STUDY.replace("area", "zone"), &rows(0..48)).unwrap_err();
        assert!(error.contains("area"), "{error}");
    }
}
