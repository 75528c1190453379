//! Statements that insert many rows at once and replace what has the same key.

use std::fmt::Write as _;

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

/// Rows per statement: large ones spread the cost of a statement, a single one keeps it small; few sizes keep the
/// cache of prepared statements small. 128 rows of 15 columns stay under the 32 766 parameters of a statement.
const CHUNKS: [usize; 3] = [128, 16, 1];

pub(crate) type Bound = Query<'static, Sqlite, SqliteArguments>;

/// An upsert: the table, its columns, and what a second row with the same key does.
pub(crate) struct Upsert {
    pub(crate) table: &'static str,
    pub(crate) columns: &'static [&'static str],
    pub(crate) key: &'static [&'static str],
    /// Condition under which the second row replaces the first.
    pub(crate) only_if: Option<&'static str>,
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
            only_if: None,
        }
    }

    fn sql(&self, rows: usize) -> String {
        let mut sql = format!("INSERT INTO {} ({})", self.table, self.columns.join(", "));
        let width = self.columns.len();
        for row in 0..rows {
            sql += if row == 0 { " VALUES (" } else { ", (" };
            for column in 0..width {
                let comma = if column == 0 { "" } else { ", " };
                // Writing to a String cannot end in an error.
                let _ = write!(sql, "{comma}${}", row * width + column + 1);
            }
            sql.push(')');
        }
        if !self.key.is_empty() {
            let set: Vec<String> = self
                .columns
                .iter()
                .filter(|c| !self.key.contains(c))
                .map(|c| format!("{c} = excluded.{c}"))
                .collect();
            let _ = write!(
                sql,
                " ON CONFLICT ({}) DO UPDATE SET {}",
                self.key.join(", "),
                set.join(", ")
            );
        }
        if let Some(condition) = self.only_if {
            let _ = write!(sql, " WHERE {condition}");
        }
        sql
    }
}

/// Writes `rows` in as few statements as the chunk sizes allow.
pub(crate) async fn insert<T: Sync>(
    to: &mut SqliteConnection,
    upsert: &Upsert,
    rows: &[T],
    bind: impl Fn(Bound, &T) -> Bound,
) -> Result<(), sqlx::Error> {
    let mut rest = rows;
    for size in CHUNKS {
        if rest.len() < size {
            continue;
        }
        let sql = upsert.sql(size);
        while let Some((chunk, after)) = rest.split_at_checked(size) {
            if chunk.is_empty() {
                break;
            }
            let query = sqlx::query(AssertSqlSafe(sql.clone()));
            chunk.iter().fold(query, &bind).execute(&mut *to).await?;
            rest = after;
        }
    }
    Ok(())
}
