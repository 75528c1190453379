//! Rows on their way into a table, each made when it is needed: a batch of them written out at once would be many times as large.

use super::{Value, Values};
use crate::upsert::Upsert;

/// Rows of one table.
pub(crate) struct Lines<'r> {
    count: usize,
    line: Box<dyn Fn(usize) -> Values<'r> + Send + Sync + 'r>,
}

impl<'r> Lines<'r> {
    /// Each of `rows` as `values` says.
    pub(crate) fn of<T: Sync>(rows: &'r [T], values: fn(&'r T) -> Values<'r>) -> Self {
        Self {
            count: rows.len(),
            line: Box::new(move |n| values(&rows[n])),
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Values<'r>> {
        (0..self.count).map(|n| (self.line)(n))
    }

    /// What has to be known before they are written; refuses what one of the databases cannot hold, so that both refuse the same.
    pub(super) fn survey(&self, upsert: &Upsert) -> Result<Survey, sqlx::Error> {
        let instant = upsert.partitioned.and_then(|of| upsert.place(of.column));
        let mut survey = Survey {
            in_order: true,
            instants: Vec::with_capacity(instant.map_or(0, |_| self.count)),
        };
        let order = upsert.order();
        let mut before: Option<Values<'_>> = None;
        for line in self.iter() {
            line.is_writable(upsert.columns)?;
            if let Some(Value::Integer(Some(at))) = instant.and_then(|place| line.0.get(place)) {
                survey.instants.push(*at);
            }
            survey.in_order &= before.is_none_or(|before| order.is_before(&before, &line));
            before = Some(line);
        }
        Ok(survey)
    }
}

impl<'r> From<Vec<Values<'r>>> for Lines<'r> {
    fn from(rows: Vec<Values<'r>>) -> Self {
        Self {
            count: rows.len(),
            line: Box::new(move |n| rows[n].clone()),
        }
    }
}

/// What rows are like.
pub(super) struct Survey {
    /// True if they are in order of their key, and no two have the same.
    pub(super) in_order: bool,
    /// What they have in the column that divides their table, if one does.
    pub(super) instants: Vec<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::partition::READING;
    use proptest::prelude::*;

    const TABLE: Upsert = Upsert::new("reading", &["sampled_at", "evse"], &["evse", "sampled_at"]);

    fn row((at, evse): &(i64, String)) -> Values<'_> {
        Values::of(2).bind(*at).bind(evse.as_str())
    }

    proptest! {
        #[test]
        fn rows_are_in_order_if_their_keys_rise(rows in prop::collection::vec((0_i64..3, "[ab]"), 0..5)) {
            let table = TABLE.partitioned(READING);
            let survey = Lines::of(&rows, row).survey(&table).unwrap();
            let rises = rows.is_sorted_by(|a, b| (&a.1, a.0) < (&b.1, b.0));
            prop_assert_eq!(survey.in_order, rises);
            let instants: Vec<i64> = rows.iter().map(|(at, _)| *at).collect();
            prop_assert_eq!(survey.instants, instants);
        }
    }

    #[test]
    fn a_text_that_no_database_holds_is_refused() {
        let rows = [(1, "a\0".to_owned())];
        assert!(Lines::of(&rows, row).survey(&TABLE).is_err());
    }
}
