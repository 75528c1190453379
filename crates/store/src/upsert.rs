//! Statements that insert many rows at once and replace what has the same key.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use crate::database::partition::Partitioned;
use crate::database::{Key, Value, Values};

/// Rows per statement: large ones spread the cost of a statement, a single one keeps it small; few sizes keep the
/// cache of prepared statements small. 128 rows of 15 columns stay under the 32 766 parameters of a statement.
const CHUNKS: [usize; 3] = [128, 16, 1];

/// An upsert: the table, its columns, and what a second row with the same key does.
pub(crate) struct Upsert {
    pub(crate) table: &'static str,
    pub(crate) columns: &'static [&'static str],
    /// Rows that agree in these are the same; none for rows that are always new.
    pub(crate) key: &'static [&'static str],
    /// A row never replaces one that has more in this column.
    pub(crate) version: Option<&'static str>,
    /// True if most rows are there already: many of them go through a staging table at once.
    pub(crate) repeats: bool,
    /// How PostgreSQL divides the table.
    pub(crate) partitioned: Option<Partitioned>,
}

impl Upsert {
    pub(crate) const fn new(
        table: &'static str,
        columns: &'static [&'static str],
        key: &'static [&'static str],
    ) -> Self {
        Self {
            table,
            columns,
            key,
            version: None,
            repeats: false,
            partitioned: None,
        }
    }

    pub(crate) const fn versioned(mut self, column: &'static str) -> Self {
        self.version = Some(column);
        self
    }

    pub(crate) const fn repeating(mut self) -> Self {
        self.repeats = true;
        self
    }

    pub(crate) const fn partitioned(mut self, by: Partitioned) -> Self {
        self.partitioned = Some(by);
        self
    }

    /// Place of a column among [`Upsert::columns`].
    pub(crate) fn place(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|c| *c == column)
    }

    /// `INSERT INTO table (columns)`.
    pub(crate) fn into(&self) -> String {
        format!("INSERT INTO {} ({})", self.table, self.columns.join(", "))
    }

    /// What follows the rows: the second of a key replaces the first.
    pub(crate) fn on_conflict(&self) -> String {
        let mut sql = String::new();
        if !self.key.is_empty() {
            let set: Vec<String> = self
                .columns
                .iter()
                .filter(|c| !self.key.contains(c))
                .map(|c| format!("{c} = excluded.{c}"))
                .collect();
            // Writing to a String cannot end in an error.
            let _ = write!(
                sql,
                " ON CONFLICT ({}) DO UPDATE SET {}",
                self.key.join(", "),
                set.join(", ")
            );
        }
        if let Some(version) = self.version {
            let _ = write!(sql, " WHERE excluded.{version} >= {}.{version}", self.table);
        }
        sql
    }

    fn sql(&self, rows: usize) -> String {
        let mut sql = self.into();
        let width = self.columns.len();
        for row in 0..rows {
            sql += if row == 0 { " VALUES (" } else { ", (" };
            for column in 0..width {
                let comma = if column == 0 { "" } else { ", " };
                let _ = write!(sql, "{comma}${}", row * width + column + 1);
            }
            sql.push(')');
        }
        sql + &self.on_conflict()
    }

    /// `rows` in as few statements as the chunk sizes allow.
    pub(crate) fn statements<'v>(&self, rows: Vec<Values<'v>>) -> Vec<(String, Vec<Value<'v>>)> {
        let mut statements = Vec::new();
        let mut rest = rows.into_iter();
        for size in CHUNKS {
            let sql = if rest.len() < size {
                continue;
            } else {
                self.sql(size)
            };
            while rest.len() >= size {
                let values = rest.by_ref().take(size).flat_map(|row| row.0).collect();
                statements.push((sql.clone(), values));
            }
        }
        statements
    }

    /// The order of its key.
    pub(crate) fn order(&self) -> Order {
        Order(self.key.iter().filter_map(|c| self.place(c)).collect())
    }

    /// What is left of `rows` after they were written one by one: of each key the last, or the last of the highest version.
    pub(crate) fn last_of_each<'v>(&self, rows: Vec<Values<'v>>) -> Vec<Values<'v>> {
        if self.key.is_empty() || rows.len() < 2 {
            return rows;
        }
        let Order(places) = self.order();
        let version = self.version.and_then(|column| self.place(column));
        let newer = |row: &Values<'_>, than: &Values<'_>| match version
            .map(|at| (&row.0[at], &than.0[at]))
        {
            Some((Value::Integer(row), Value::Integer(than))) => row >= than,
            _ => true,
        };
        let mut last = HashMap::with_capacity(rows.len());
        for (n, row) in rows.iter().enumerate() {
            let kept = last.entry(RowKey(row, &places)).or_insert(n);
            if newer(row, &rows[*kept]) {
                *kept = n;
            }
        }
        if last.len() == rows.len() {
            return rows;
        }
        let mut left: Vec<usize> = last.into_values().collect();
        left.sort_unstable();
        left.into_iter().map(|n| rows[n].clone()).collect()
    }
}

/// The places of what tells a row apart.
pub(crate) struct Order(Vec<usize>);

impl Order {
    /// True if the key of `row` is lower than that of `than`.
    pub(crate) fn is_before(&self, row: &Values<'_>, than: &Values<'_>) -> bool {
        RowKey(row, &self.0)
            .values()
            .lt(RowKey(than, &self.0).values())
    }
}

/// What tells a row apart: its values in some places.
struct RowKey<'r>(&'r Values<'r>, &'r [usize]);

impl<'r> RowKey<'r> {
    fn values(&self) -> impl Iterator<Item = Option<Key<'r>>> + use<'r> {
        let row = self.0;
        self.1.iter().map(|at| row.0[*at].key())
    }
}

impl PartialEq for RowKey<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.values().eq(other.values())
    }
}

impl Eq for RowKey<'_> {}

impl Hash for RowKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.values().for_each(|value| value.hash(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: Upsert = Upsert::new("t", &["a", "b", "v"], &["a", "b"]);

    proptest! {
        #[test]
        fn what_is_left_is_what_one_after_the_other_leaves(
            rows in prop::collection::vec((0_i64..4, "[xy]", 0_i64..4), 0..40),
            versioned: bool,
        ) {
            let table = if versioned { TABLE.versioned("v") } else { TABLE };
            let mut expected: HashMap<(i64, String), (usize, i64)> = HashMap::new();
            for (n, (a, b, v)) in rows.iter().enumerate() {
                let kept = expected.entry((*a, b.clone())).or_insert((n, *v));
                if !versioned || *v >= kept.1 {
                    *kept = (n, *v);
                }
            }
            let mut expected: Vec<usize> = expected.into_values().map(|(n, _)| n).collect();
            expected.sort_unstable();
            let values = |(a, b, v): &(i64, String, i64)| Values::of(3).bind(*a).bind(b.clone()).bind(*v);
            let left = table.last_of_each(rows.iter().map(values).collect());
            let expected: Vec<Values<'_>> = expected.into_iter().map(|n| values(&rows[n])).collect();
            prop_assert_eq!(left, expected);
        }

        #[test]
        fn statements_hold_every_row_once_in_order(count in 0_usize..400) {
            let rows: Vec<Values<'_>> = (0..count)
                .map(|n| Values::of(3).bind(i64::try_from(n).unwrap()).bind("x").bind(0_i64))
                .collect();
            let all: Vec<Value<'_>> = rows.iter().flat_map(|row| row.0.clone()).collect();
            let written: Vec<Value<'_>> = TABLE
                .statements(rows)
                .into_iter()
                .flat_map(|(_, values)| values)
                .collect();
            prop_assert_eq!(written, all);
        }
    }
}
