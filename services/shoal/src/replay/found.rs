//! What was compared, and the first thing that differs.

use serde::Serialize;

/// One thing that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    /// Of the set-point, or EVSE and start of the interval.
    pub(super) id: String,
    pub(super) what: String,
}

/// Decisions of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Kind {
    /// Decided again, to the byte.
    pub(super) found_again: u64,
    pub(super) differences: u64,
    pub(super) first_difference: Option<Difference>,
    /// On the log, and what they were decided from is not, or not any more.
    pub(super) not_checked: u64,
    pub(super) why_not_checked: Option<String>,
}

impl Kind {
    pub(super) fn differs(&mut self, id: impl Into<String>, what: impl Into<String>) {
        self.differences += 1;
        self.first_difference.get_or_insert_with(|| Difference {
            id: id.into(),
            what: what.into(),
        });
    }

    pub(super) fn unchecked(&mut self, count: u64, why: impl Into<String>) {
        if count > 0 {
            self.not_checked += count;
            self.why_not_checked.get_or_insert_with(|| why.into());
        }
    }

    /// For people.
    pub(super) fn line(&self, name: &str) -> String {
        let mut line = format!("{name}: {} found again", self.found_again);
        if let Some(Difference { id, what }) = &self.first_difference {
            line += &format!(", {} differ, first {id}: {what}", self.differences);
        }
        if let Some(why) = &self.why_not_checked {
            line += &format!(", {} not checked: {why}", self.not_checked);
        }
        line
    }
}

/// Where two encodings of a message part, in words.
pub(super) fn parting<M: std::fmt::Debug>(logged: &M, again: &M) -> String {
    let (logged, again) = (format!("{logged:?}"), format!("{again:?}"));
    let at = logged
        .bytes()
        .zip(again.bytes())
        .take_while(|(a, b)| a == b);
    let from = at.count().saturating_sub(24);
    let part = |text: &str| -> String {
        let part = text.chars().skip(from).take(72);
        part.collect()
    };
    format!("logged ..{}.., decided ..{}..", part(&logged), part(&again))
}
