//! Configuration: one TOML file, environment variables over it, read once and refused whole.
//!
//! `SHOAL_GATEWAY__CYCLE_MS=500` sets `cycle_ms` in section `[gateway]`; further `__` go deeper. A value is read as TOML
//! where it parses (`500`, `true`, `["a"]`, `"text"`) and as text otherwise. Variables without `__` are not settings.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// Start of the names of variables that are ours.
const PREFIX: &str = "SHOAL_";

/// Text that is shown to nobody: printing and serialising give stars.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text, for the one call that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("***")
    }
}

/// A configuration that is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read.
    #[error("{}: not readable", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that is not TOML.
    #[error("{}:{line}: {what}", file.display())]
    Syntax {
        /// Which.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A key that is unknown, missing or has a wrong value.
    #[error("{origin}: {key}: {what}")]
    Key {
        /// The file, or `environment`.
        origin: String,
        /// Dotted name.
        key: String,
        /// What is wrong.
        what: String,
    },
}

/// Reads `file` (no file: an empty one) and the variables of this process.
///
/// # Errors
/// [`ConfigError`] with the file and line, or the name of the key.
pub fn load<T: DeserializeOwned>(file: Option<&Path>) -> Result<T, ConfigError> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load_from(file, variables)
}

/// [`load`] with the variables given.
///
/// # Errors
/// As [`load`].
pub fn load_from<T: DeserializeOwned>(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let mut table = file.map_or_else(|| Ok(Table::new()), read)?;
    let mut set = Vec::new();
    for (name, text) in variables {
        if let Some(path) = key_path(&name) {
            put(&mut table, &path, value(&text)).map_err(|key| ConfigError::Key {
                origin: "environment".to_owned(),
                key,
                what: format!("is a value, {name} asks for a section"),
            })?;
            set.push(path.join("."));
        }
    }
    table
        .try_into()
        .map_err(|refused| blame(&refused, file, &set))
}

/// The effective configuration as TOML, secrets as stars.
///
/// # Errors
/// [`toml::ser::Error`] for a value TOML cannot hold.
pub fn dump<T: Serialize>(config: &T) -> Result<String, toml::ser::Error> {
    toml::to_string_pretty(config)
}

fn read(file: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Unreadable {
        file: file.to_owned(),
        source,
    })?;
    text.parse().map_err(|wrong: toml::de::Error| {
        let before = wrong.span().map_or(0, |span| span.start);
        ConfigError::Syntax {
            file: file.to_owned(),
            line: text.bytes().take(before).filter(|b| *b == b'\n').count() + 1,
            what: wrong.message().to_owned(),
        }
    })
}

/// `SHOAL_MARKET__AREA` is `["market", "area"]`; other names are not settings.
fn key_path(name: &str) -> Option<Vec<String>> {
    let name = name.strip_prefix(PREFIX)?;
    name.contains("__")
        .then(|| name.split("__").map(str::to_lowercase).collect())
}

fn value(text: &str) -> Value {
    format!("v = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Puts `value` at `path`, making sections on the way; the error is the dotted key that is no section.
fn put(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    let Some((last, sections)) = path.split_last() else {
        return Ok(());
    };
    let mut inner = table;
    for (depth, section) in sections.iter().enumerate() {
        inner = inner
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| path[..=depth].join("."))?;
    }
    inner.insert(last.clone(), value);
    Ok(())
}

/// Turns a refusal into one line with the key: the section comes from the trace that `toml` adds, the key of an unknown
/// or missing field from its message.
fn blame(refused: &toml::de::Error, file: Option<&Path>, set: &[String]) -> ConfigError {
    let what = refused.message().to_owned();
    let text = refused.to_string();
    let section = text
        .lines()
        .find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'))
        .unwrap_or_default();
    let field = ["unknown field `", "missing field `"]
        .iter()
        .find_map(|start| what.strip_prefix(start)?.split('`').next())
        .filter(|field| section.rsplit('.').next() != Some(*field))
        .unwrap_or_default();
    let key = [section, field].map(str::to_owned);
    let key = key
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(".");
    let origin = match file {
        Some(file) if !set.contains(&key) => file.display().to_string(),
        _ => "environment".to_owned(),
    };
    ConfigError::Key { origin, key, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(default)]
        gateway: Gateway,
    }

    #[derive(Debug, Default, Deserialize, Serialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Gateway {
        cycle_ms: u64,
        area: String,
        token: Secret,
    }

    fn written(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn vars(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn a_variable_overrides_the_file() {
        let file = written("[gateway]\ncycle_ms = 1000\narea = \"NL\"\n");
        let set = vars(&[
            ("SHOAL_GATEWAY__CYCLE_MS", "500"),
            ("SHOAL_CONFIG", "elsewhere"),
            ("OTHER__KEY", "1"),
        ]);
        let config: Config = load_from(Some(file.path()), set).unwrap();
        assert_eq!(config.gateway.cycle_ms, 500);
        assert_eq!(config.gateway.area, "NL");
    }

    #[test]
    fn an_unknown_key_is_refused_by_its_name_and_origin() {
        let file = written("[gateway]\ncycle = 1\n");
        let refused = load_from::<Config>(Some(file.path()), vec![]).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.starts_with(&format!("{}: gateway.cycle: ", file.path().display())),
            "{text}"
        );
        let set = vars(&[("SHOAL_GATWAY__AREA", "NL")]);
        let text = load_from::<Config>(None, set).unwrap_err().to_string();
        assert!(text.starts_with("environment: gatway: "), "{text}");
    }

    #[test]
    fn a_wrong_value_is_refused_by_its_key() {
        let set = vars(&[("SHOAL_GATEWAY__CYCLE_MS", "soon")]);
        let text = load_from::<Config>(None, set).unwrap_err().to_string();
        assert!(
            text.starts_with("environment: gateway.cycle_ms: "),
            "{text}"
        );
    }

    #[test]
    fn broken_toml_is_refused_with_its_line() {
        let file = written("[gateway]\n\ncycle_ms = = 1\n");
        let text = load_from::<Config>(Some(file.path()), vec![])
            .unwrap_err()
            .to_string();
        assert!(
            text.starts_with(&format!("{}:3: ", file.path().display())),
            "{text}"
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let set = vars(&[("SHOAL_GATEWAY__TOKEN", "hunter2")]);
        let config: Config = load_from(None, set).unwrap();
        assert_eq!(config.gateway.token.reveal(), "hunter2");
        let shown = dump(&config).unwrap() + &format!("{config:?}");
        assert!(!shown.contains("hunter2") && shown.contains("***"));
    }
}
