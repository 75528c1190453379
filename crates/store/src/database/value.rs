//! Values of columns, and statements with them.

use std::borrow::Cow;

use bytes::Bytes;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Postgres, SqlSafeStr, SqlStr, Sqlite};

/// A value of a column; none is NULL.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'v> {
    Integer(Option<i64>),
    Real(Option<f64>),
    Text(Option<Cow<'v, str>>),
    Bytes(Bytes),
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl From<f64> for Value<'_> {
    fn from(value: f64) -> Self {
        Self::Real(Some(value))
    }
}

impl From<Option<f64>> for Value<'_> {
    fn from(value: Option<f64>) -> Self {
        Self::Real(value)
    }
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(value: &'v str) -> Self {
        Self::Text(Some(value.into()))
    }
}

impl<'v> From<Option<&'v str>> for Value<'v> {
    fn from(value: Option<&'v str>) -> Self {
        Self::Text(value.map(Cow::Borrowed))
    }
}

impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Self::Text(Some(value.into()))
    }
}

impl From<Option<String>> for Value<'_> {
    fn from(value: Option<String>) -> Self {
        Self::Text(value.map(Cow::Owned))
    }
}

impl From<Bytes> for Value<'_> {
    fn from(value: Bytes) -> Self {
        Self::Bytes(value)
    }
}

/// What tells rows of one table apart.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key<'v> {
    Integer(Option<i64>),
    Text(Option<&'v str>),
}

impl Value<'_> {
    /// The same with its own copy of a text.
    fn into_owned(self) -> Value<'static> {
        match self {
            Self::Integer(value) => Value::Integer(value),
            Self::Real(value) => Value::Real(value),
            Self::Text(value) => Value::Text(value.map(|text| text.into_owned().into())),
            Self::Bytes(value) => Value::Bytes(value),
        }
    }

    /// The value as part of a key; none for types that are not keys.
    pub(crate) fn key(&self) -> Option<Key<'_>> {
        match self {
            Self::Integer(value) => Some(Key::Integer(*value)),
            Self::Text(value) => Some(Key::Text(value.as_deref())),
            Self::Real(_) | Self::Bytes(_) => None,
        }
    }
}

/// Values of one row, in the order of its columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Values<'v>(pub(crate) Vec<Value<'v>>);

impl<'v> Values<'v> {
    pub(crate) fn of(columns: usize) -> Self {
        Self(Vec::with_capacity(columns))
    }

    #[must_use]
    pub(crate) fn bind(mut self, value: impl Into<Value<'v>>) -> Self {
        self.0.push(value.into());
        self
    }

    /// Refuses what one of the databases cannot hold, so that both refuse the same.
    pub(crate) fn is_writable(&self, columns: &[&str]) -> Result<(), sqlx::Error> {
        for (value, column) in self.0.iter().zip(columns) {
            if let Value::Text(Some(text)) = value
                && text.contains('\0')
            {
                let what = format!("column {column}: {text:?} holds a NUL character");
                return Err(sqlx::Error::Encode(what.into()));
            }
        }
        Ok(())
    }
}

/// A statement with its values.
pub(crate) struct Sql {
    text: SqlStr,
    values: Values<'static>,
}

/// The statement `text`.
pub(crate) fn sql(text: impl SqlSafeStr) -> Sql {
    Sql {
        text: text.into_sql_str(),
        values: Values::default(),
    }
}

macro_rules! bound {
    ($name:ident, $database:ty, $arguments:ty) => {
        pub(super) fn $name(self) -> Query<'static, $database, $arguments> {
            let query = sqlx::query(self.text);
            self.values
                .0
                .into_iter()
                .fold(query, |query, value| match value {
                    Value::Integer(value) => query.bind(value),
                    Value::Real(value) => query.bind(value),
                    Value::Text(value) => query.bind(value.map(Cow::into_owned)),
                    Value::Bytes(value) => query.bind(Vec::from(value)),
                })
        }
    };
}

impl Sql {
    #[must_use]
    pub(crate) fn bind(mut self, value: impl Into<Value<'static>>) -> Self {
        self.values.0.push(value.into());
        self
    }

    #[must_use]
    pub(super) fn bind_all(mut self, values: Vec<Value<'_>>) -> Self {
        self.values
            .0
            .extend(values.into_iter().map(Value::into_owned));
        self
    }

    bound!(sqlite, Sqlite, SqliteArguments);
    bound!(postgres, Postgres, PgArguments);
}
