//! A TOML file taken apart key by key, so that every complaint names file, line and key, and no key is left unread.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a value of any other TOML type is refused alike"
)]

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::{InputError, Place};

/// The text of a file, for turning offsets into lines.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) file: &'a Path,
    pub(crate) text: &'a str,
}

/// A table being read; [`Branch::finish`] refuses the keys nobody asked for.
pub(crate) struct Branch<'a> {
    source: Source<'a>,
    path: String,
    at: usize,
    table: &'a DeTable<'a>,
    known: BTreeSet<&'static str>,
}

/// A value with its key.
pub(crate) struct Leaf<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) path: String,
    at: usize,
    value: &'a DeValue<'a>,
}

impl Source<'_> {
    fn line(&self, offset: usize) -> u64 {
        let upto = self
            .text
            .as_bytes()
            .get(..offset)
            .unwrap_or(self.text.as_bytes());
        1 + upto.iter().filter(|b| **b == b'\n').count() as u64
    }

    fn error(&self, offset: usize, path: &str, what: impl Into<String>) -> InputError {
        let line = self.line(offset);
        let place = if path.is_empty() {
            Place::Line(line)
        } else {
            Place::Key(line, path.to_owned())
        };
        InputError::new(self.file, place, what)
    }

    /// Refuses a file that is not TOML.
    pub(crate) fn refuse(&self, error: &toml::de::Error) -> InputError {
        let at = error.span().map_or(0, |s| s.start);
        let what = error.message().replace('\n', "; ");
        self.error(
            at,
            "",
            format!("not valid TOML ({what}), expected `key = value`"),
        )
    }
}

impl<'a> Branch<'a> {
    /// The whole file.
    pub(crate) fn root(source: Source<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            source,
            path: String::new(),
            at: 0,
            table,
            known: BTreeSet::new(),
        }
    }

    fn key(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The value of `key`, if there is one.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<Leaf<'a>> {
        self.known.insert(key);
        let value: &Spanned<DeValue<'a>> = self.table.get(key)?;
        Some(Leaf {
            source: self.source,
            path: self.key(key),
            at: value.span().start,
            value: value.get_ref(),
        })
    }

    /// The value of `key`, which must be there.
    pub(crate) fn need(
        &mut self,
        key: &'static str,
        expected: &str,
    ) -> Result<Leaf<'a>, InputError> {
        let path = self.key(key);
        self.get(key).ok_or_else(|| {
            self.source.error(
                self.at,
                &path,
                format!("key is missing, expected {expected}"),
            )
        })
    }

    /// A number of `range`, or `default`.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        default: f64,
        range: (f64, f64),
    ) -> Result<f64, InputError> {
        self.get(key).map_or(Ok(default), |leaf| leaf.number(range))
    }

    /// True or false, or `default`.
    pub(crate) fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, InputError> {
        self.get(key).map_or(Ok(default), |leaf| leaf.flag())
    }

    /// Refuses keys that nobody asked for.
    pub(crate) fn finish(self) -> Result<(), InputError> {
        let unknown = self
            .table
            .keys()
            .find(|k| !self.known.contains(k.get_ref().as_ref()));
        let Some(key) = unknown else { return Ok(()) };
        let known: Vec<_> = self.known.iter().copied().collect();
        Err(self.source.error(
            key.span().start,
            &self.key(key.get_ref()),
            format!("unknown key, expected one of {}", known.join(", ")),
        ))
    }

    /// An error about the table as a whole.
    pub(crate) fn error(&self, what: impl Into<String>) -> InputError {
        self.source.error(self.at, &self.path, what)
    }
}

impl<'a> Leaf<'a> {
    /// An error about this value.
    pub(crate) fn error(&self, what: impl Into<String>) -> InputError {
        self.source.error(self.at, &self.path, what)
    }

    fn met(&self, expected: &str) -> InputError {
        let met = match self.value {
            DeValue::String(s) => format!("{:?}", s.chars().take(60).collect::<String>()),
            DeValue::Integer(i) => i.to_string(),
            DeValue::Float(f) => f.to_string(),
            DeValue::Boolean(b) => b.to_string(),
            DeValue::Datetime(d) => d.to_string(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.error(format!("{met}, expected {expected}"))
    }

    /// Text.
    pub(crate) fn text(&self, expected: &str) -> Result<&'a str, InputError> {
        if let DeValue::String(text) = self.value
            && !text.is_empty()
        {
            return Ok(text.as_ref());
        }
        Err(self.met(expected))
    }

    /// A finite number of `range`, both ends included.
    pub(crate) fn number(&self, range: (f64, f64)) -> Result<f64, InputError> {
        let value = match self.value {
            DeValue::Integer(i) => i64::from_str_radix(i.as_str(), i.radix()).ok().map(whole),
            DeValue::Float(f) => f.as_str().parse::<f64>().ok(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        let (low, high) = range;
        value
            .filter(|v| v.is_finite() && *v >= low && *v <= high)
            .ok_or_else(|| {
                self.met(&match (low.is_finite(), high.is_finite()) {
                    (true, true) => format!("a number from {low} to {high}"),
                    (true, false) => format!("a finite number of at least {low}"),
                    _ => "a finite number".to_owned(),
                })
            })
    }

    /// A whole number of `range`, both ends included.
    pub(crate) fn count(&self, range: (u32, u32)) -> Result<u32, InputError> {
        let value = match self.value {
            DeValue::Integer(i) => u32::from_str_radix(i.as_str(), i.radix()).ok(),
            _ => None,
        };
        value
            .filter(|v| (range.0..=range.1).contains(v))
            .ok_or_else(|| self.met(&format!("a whole number from {} to {}", range.0, range.1)))
    }

    /// True or false.
    pub(crate) fn flag(&self) -> Result<bool, InputError> {
        match self.value {
            DeValue::Boolean(value) => Ok(*value),
            _ => Err(self.met("true or false")),
        }
    }

    /// A local date, bare or quoted.
    pub(crate) fn date(&self) -> Result<NaiveDate, InputError> {
        let text = match self.value {
            DeValue::Datetime(d) => d.to_string(),
            DeValue::String(s) => s.to_string(),
            _ => String::new(),
        };
        let date = NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok();
        date.filter(|d| (1900..2200).contains(&chrono::Datelike::year(d)))
            .ok_or_else(|| self.met("a local date, as in 2024-01-31"))
    }

    /// An instant with its offset from UTC, bare or quoted.
    pub(crate) fn instant(&self) -> Result<DateTime<Utc>, InputError> {
        let text = match self.value {
            DeValue::Datetime(d) => d.to_string(),
            DeValue::String(s) => s.to_string(),
            _ => String::new(),
        };
        DateTime::parse_from_rfc3339(&text)
            .map(|at| at.with_timezone(&Utc))
            .map_err(|_| self.met("an instant with its offset, as in 2024-01-31T17:00:00+01:00"))
    }

    /// Whether it is a table.
    pub(crate) const fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    /// A table.
    pub(crate) fn branch(&self, expected: &str) -> Result<Branch<'a>, InputError> {
        match self.value {
            DeValue::Table(table) => Ok(Branch {
                source: self.source,
                path: self.path.clone(),
                at: self.at,
                table,
                known: BTreeSet::new(),
            }),
            _ => Err(self.met(expected)),
        }
    }

    /// The entries of a list, numbered from 0; a value that is no list is its only entry.
    pub(crate) fn list(&self) -> Vec<Self> {
        let leaf = |path, at, value| Self {
            source: self.source,
            path,
            at,
            value,
        };
        match self.value {
            DeValue::Array(items) => {
                let items: &DeArray<'a> = items;
                let numbered = items.iter().enumerate();
                numbered
                    .map(|(i, v)| leaf(format!("{}[{i}]", self.path), v.span().start, v.get_ref()))
                    .collect()
            }
            value => vec![leaf(self.path.clone(), self.at, value)],
        }
    }

    /// The entries of a table with text values.
    pub(crate) fn texts(&self, expected: &str) -> Result<Vec<(String, String)>, InputError> {
        let DeValue::Table(table) = self.value else {
            return Err(self.met(expected));
        };
        let entry = |(key, value): (&Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let key: &std::borrow::Cow<'_, str> = key.get_ref();
            let leaf = Self {
                source: self.source,
                path: format!("{}.{key}", self.path),
                at: value.span().start,
                value: value.get_ref(),
            };
            Ok((key.to_string(), leaf.text(expected)?.to_owned()))
        };
        table.iter().map(entry).collect()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "limits and prices are far below 2^53"
)]
const fn whole(value: i64) -> f64 {
    value as f64
}
