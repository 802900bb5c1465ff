//! Settings: one TOML file, then the environment (`LINKMESH__SECTION__KEY`) over it, read once at the start.
//!
//! Whatever is not understood is refused with its full key: a typo never silently means the default.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::Path;

use config::Value;
use config::ValueKind;
use serde::de::DeserializeOwned;

/// What an environment variable's name begins with to be read as a setting.
const ENVIRONMENT_PREFIX: &str = "LINKMESH__";
/// Separates section, key and what lies below in an environment variable's name.
const ENVIRONMENT_SEPARATOR: &str = "__";
/// What is wrong with a required key that nobody has set.
const MISSING: &str = "is missing";

/// A setting that can't be taken. The program answers it with exit code 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The full key, such as `links.postgres.primary`; empty when the file itself can't be read.
    pub key: String,
    /// What is wrong with its value, and what would be accepted.
    pub why: String,
}

impl ConfigError {
    /// An error for `key`; `why` says what is accepted.
    pub fn new(key: impl Into<String>, why: impl Into<String>) -> ConfigError {
        ConfigError { key: key.into(), why: why.into() }
    }

    /// Whether the key is required and nothing was said under it.
    pub fn is_missing(&self) -> bool {
        self.why == MISSING
    }

    fn below(section: &str, error: &config::ConfigError) -> ConfigError {
        let (path, why) = if let config::ConfigError::At { error, key, .. } = error {
            (key.as_deref(), error.to_string())
        } else if let config::ConfigError::Type { unexpected, expected, key, .. } = error {
            (key.as_deref(), format!("is {unexpected}, expected {expected}"))
        } else if let config::ConfigError::NotFound(key) = error {
            (Some(key.as_str()), MISSING.to_owned())
        } else {
            (None, error.to_string())
        };
        let mut key = section.to_owned();
        // Serde names a field that it does not know, or misses, only in its text: it belongs to the key.
        let (field, why) = match quoted_after(&why, "unknown field ") {
            Some((field, accepted)) => (Some(field), format!("is not a setting{accepted}")),
            None => match quoted_after(&why, "missing field ") {
                Some((field, _)) => (Some(field), MISSING.to_owned()),
                None => (None, why),
            },
        };
        for part in path.into_iter().chain(field.as_deref()).filter(|part| !part.is_empty()) {
            if !part.starts_with('[') && !key.is_empty() {
                key.push('.');
            }
            key.push_str(part);
        }
        ConfigError { key, why }
    }
}

/// Splits "PREFIX`NAME`REST" into NAME and REST.
fn quoted_after(text: &str, prefix: &str) -> Option<(String, String)> {
    let (name, rest) = text.strip_prefix(prefix)?.strip_prefix('`')?.split_once('`')?;
    Some((name.to_owned(), rest.to_owned()))
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(formatter, "configuration: {}", self.why);
        }
        let variable = self.key.to_uppercase().replace('.', ENVIRONMENT_SEPARATOR);
        write!(
            formatter,
            "configuration key `{}` (or {ENVIRONMENT_PREFIX}{variable} in the environment): {}",
            self.key, self.why
        )
    }
}

impl std::error::Error for ConfigError {}

/// What the file and the environment say, by section, before anyone has looked at it.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    sections: BTreeMap<String, Value>,
}

impl Settings {
    /// Reads the file, if there is one, and lays `environment` over it.
    ///
    /// Of the environment only names that begin with `LINKMESH__` are read. A value that begins with `[` or `{` is read as
    /// TOML, so lists and tables can be given too. Fails if the file can't be read or is no TOML.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, ConfigError> {
        let mut builder = config::Config::builder();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                ConfigError::new("", format!("{} can't be read: {error}", path.display()))
            })?;
            builder = builder.add_source(config::File::from_str(&text, config::FileFormat::Toml));
        }
        for (name, text) in environment {
            let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let key = path.to_lowercase().replace(ENVIRONMENT_SEPARATOR, ".");
            builder = builder
                .set_override(&key, environment_value(&key, text)?)
                .map_err(|error| ConfigError::new(&key, error.to_string()))?;
        }
        let merged = builder.build().map_err(|error| {
            let place = file.map_or_else(String::new, |path| format!("{}: ", path.display()));
            ConfigError::new("", format!("{place}{error}"))
        })?;
        let sections = merged
            .cache
            .into_table()
            .map_err(|error| ConfigError::new("", error.to_string()))?
            .into_iter()
            .collect();
        Ok(Settings { sections })
    }

    /// Refuses sections that are not among `accepted`.
    pub fn accept_only(&self, accepted: &[&str]) -> Result<(), ConfigError> {
        match self.sections.keys().find(|name| !accepted.contains(&name.as_str())) {
            Some(name) => Err(ConfigError::new(
                name,
                format!("is not a section, expected one of {}", accepted.join(", ")),
            )),
            None => Ok(()),
        }
    }

    /// Whether anything is said in the section.
    pub fn has(&self, section: &str) -> bool {
        self.sections.contains_key(section)
    }

    /// Reads a section; one that is not there is read as an empty one.
    pub fn section<T: DeserializeOwned>(&self, section: &str) -> Result<T, ConfigError> {
        let empty = || Value::new(None, ValueKind::Table(config::Map::new()));
        let value = self.sections.get(section).cloned().unwrap_or_else(empty);
        T::deserialize(value).map_err(|error| ConfigError::below(section, &error))
    }

    /// Takes one key out of a section, so that [`Settings::section`] does not see it any more.
    pub fn take<T: DeserializeOwned>(
        &mut self,
        section: &str,
        key: &str,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.sections.get_mut(section) else { return Ok(None) };
        let ValueKind::Table(table) = &mut value.kind else {
            return Err(ConfigError::new(section, "is not a section, expected a table"));
        };
        let Some(taken) = table.remove(key) else { return Ok(None) };
        let path = format!("{section}.{key}");
        T::deserialize(taken).map(Some).map_err(|error| ConfigError::below(&path, &error))
    }

    /// These settings, with everything that `over` says laid over them: tables are merged key by key.
    pub fn overlaid_by(mut self, over: Settings) -> Settings {
        for (name, value) in over.sections {
            match self.sections.entry(name) {
                Entry::Occupied(mut below) => overlay(below.get_mut(), value),
                Entry::Vacant(absent) => {
                    absent.insert(value);
                }
            }
        }
        self
    }

    /// Sets one key of a section: for what the program itself decides, as `linkmesh dev` does.
    pub fn set(&mut self, section: &str, key: &str, value: impl Into<ValueKind>) {
        let entry = self
            .sections
            .entry(section.to_owned())
            .or_insert_with(|| Value::new(None, ValueKind::Table(config::Map::new())));
        if let ValueKind::Table(table) = &mut entry.kind {
            table.insert(key.to_owned(), Value::new(None, value));
        }
    }
}

fn overlay(below: &mut Value, over: Value) {
    match (&mut below.kind, over.kind) {
        (ValueKind::Table(below), ValueKind::Table(over)) => {
            for (key, value) in over {
                match below.get_mut(&key) {
                    Some(known) => overlay(known, value),
                    None => {
                        below.insert(key, value);
                    }
                }
            }
        }
        (kind, over) => *kind = over,
    }
}

/// An environment variable's value: TOML when it looks like a list or a table, else the text as it is, which is converted to
/// whatever type the key has.
fn environment_value(key: &str, text: String) -> Result<Value, ConfigError> {
    if !text.starts_with(['[', '{']) {
        return Ok(Value::new(None, text));
    }
    let document = config::Config::builder()
        .add_source(config::File::from_str(&format!("value = {text}"), config::FileFormat::Toml))
        .build();
    document
        .and_then(|parsed| parsed.get::<Value>("value"))
        .map_err(|error| ConfigError::new(key, format!("is not valid TOML: {error}")))
}
