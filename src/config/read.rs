//! Text to typed values: what a field accepts, whatever YAML may have made of the text.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};

use super::{
    Address, ConfigError, Fallback, NPlusOne, Pooler, Reads, Runtime, SslMode, fields,
    tree::{self, Value, ValueKind},
};

/// Reads a section whose unknown keys have been refused already; `path` is where it stands.
///
/// serde tells the path of what is wrong; its message is dropped, for it may quote a secret.
pub(super) fn section<T: DeserializeOwned>(
    tree: &Value,
    path: &[String],
) -> Result<T, ConfigError> {
    let here = path.iter().try_fold(tree, |value, key| tree::child(value, key));
    let value = here.cloned().unwrap_or_default();
    serde_path_to_error::deserialize(value).map_err(|error| {
        let mut path = path.to_vec();
        for segment in error.path() {
            match segment {
                serde_path_to_error::Segment::Map { key } => path.push(key.clone()),
                serde_path_to_error::Segment::Seq { index } => path.push(index.to_string()),
                _ => {}
            }
        }
        wrong_type(tree, &path)
    })
}

/// The error for the value at `path`, which is not of the type of its field.
pub(super) fn wrong_type(tree: &Value, path: &[String]) -> ConfigError {
    let found = path.iter().try_fold(tree, |value, key| tree::child(value, key));
    // An item of a list has no shape of its own: the list has.
    let shape = (0..path.len()).rev().find_map(|end| fields::shape_at(path.get(..=end)?));
    ConfigError::WrongType {
        at: tree::origin_at(tree, path),
        path: path.join("."),
        expected: shape.map_or("a map", fields::Shape::expected),
        found: found.map_or("nothing", tree::kind_name),
    }
}

/// Refuses keys that mean nothing in the section at `path`.
pub(super) fn known_keys(
    tree: &Value,
    above: &[String],
    known: &'static [fields::Field],
) -> Result<(), ConfigError> {
    let Some(section) = above.iter().try_fold(tree, |value, key| tree::child(value, key)) else {
        return Ok(());
    };
    if !matches!(section.kind, ValueKind::Table(_) | ValueKind::Nil) {
        return Err(wrong_type(tree, above));
    }
    for (key, value) in tree::sorted(section) {
        let mut path = above.to_vec();
        path.push(key.clone());
        match fields::shape(known, key) {
            None => {
                let known: Vec<&'static str> = known.iter().map(|field| field.name).collect();
                let shown = tree::shown(key);
                let nearest = tree::nearest(&shown, known.iter().copied());
                let (at, path) = (tree::origin(value), format!("{}.{shown}", above.join(".")));
                return Err(ConfigError::UnknownKey { at, path, nearest, known });
            }
            Some(fields::Shape::Section(below)) => known_keys(tree, &path, below)?,
            Some(_) => {}
        }
    }
    Ok(())
}

/// One value as text. PostgreSQL takes no NUL anywhere, so none is text here.
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                if text.contains('\0') { Err(E::custom("NUL")) } else { Ok(Text(text.to_owned())) }
            }
        }
        // `deserialize_any`, for the others convert: `config` takes `yes` for the number 1.
        deserializer.deserialize_any(Visitor)
    }
}

macro_rules! typed {
    ($($(#[$doc:meta])* $name:ident($inner:ty) = $read:expr;)*) => {$(
        $(#[$doc])*
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let Text(text) = Text::deserialize(deserializer)?;
                let read: fn(String) -> Option<$inner> = $read;
                read(text).map($name).ok_or_else(|| de::Error::custom(stringify!($name)))
            }
        }
    )*};
}

typed! {
    Secret(SecretString) = |text| Some(text.into());
    FileName(PathBuf) = |text| (!text.is_empty()).then(|| text.into());
    Count(u32) = |text| digits(&text)?.parse().ok();
    Port(u16) = |text| digits(&text)?.parse().ok();
    /// With the words of YAML 1.1, which the Python original reads.
    Flag(bool) = |text| read_flag(&text);
    /// Where on the file's own server an entry is, if there.
    Own(Option<Address>) = |text| own(&text);
    Seconds(Span) = |text| span(&text, SECOND);
    Millis(Span) = |text| span(&text, MILLISECOND);
    /// In bytes.
    Size(u64) = |text| size(&text);
    Type(()) = |text| matches!(text.as_str(), "postgresql" | "postgres").then_some(());
    Ssl(SslMode) = |text| Some(match text.as_str() {
        "disable" => SslMode::Disable,
        "allow" => SslMode::Allow,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => return None,
    });
    NPlusOneName(NPlusOne) = |text| Some(match text.as_str() {
        "off" => NPlusOne::Off,
        "warn" => NPlusOne::Warn,
        "error" => NPlusOne::Error,
        _ => return None,
    });
    PoolerName(Pooler) = |text| Some(match text.as_str() {
        "none" => Pooler::None,
        "session" => Pooler::Session,
        "transaction" => Pooler::Transaction,
        _ => return None,
    });
    ReadsName(Reads) = |text| Some(match text.as_str() {
        "primary" => Reads::Primary,
        "causal" => Reads::Causal,
        "eventual" => Reads::Eventual,
        _ => return None,
    });
    FallbackName(Fallback) = |text| Some(match text.as_str() {
        "primary" => Fallback::Primary,
        "error" => Fallback::Error,
        _ => return None,
    });
    RuntimeName(Runtime) = |text| Some(match text.as_str() {
        "auto" => Runtime::Auto,
        "docker" => Runtime::Docker,
        "native" => Runtime::Native,
        "embedded" => Runtime::Embedded,
        _ => return None,
    });
}

/// Whether and where an entry is on the file's own server.
pub(super) fn own(text: &str) -> Option<Option<Address>> {
    match text {
        "replica" => Some(Some(Address::PgServerReplica)),
        _ => read_flag(text).map(|own| own.then_some(Address::PgServer)),
    }
}

fn read_flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// One value or a list of them, as settings of PostgreSQL are written.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Settings(pub(super) BTreeMap<String, Setting>);

pub(super) struct Setting(pub(super) String);

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Setting;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Setting, E> {
                if text.contains('\0') {
                    Err(E::custom("NUL"))
                } else {
                    Ok(Setting(text.to_owned()))
                }
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Setting, A::Error> {
                let mut texts = Vec::new();
                while let Some(Text(text)) = items.next_element()? {
                    texts.push(text);
                }
                Ok(Setting(texts.join(",")))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The settings at `path`, checked: they end up in startup parameters, in a file of PostgreSQL's and on command
/// lines.
pub(super) fn settings(
    tree: &Value,
    path: &[String],
    settings: Option<Settings>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let (mut checked, mut faults) = (BTreeMap::new(), Vec::new());
    for (name, value) in settings.map(|settings| settings.0).unwrap_or_default() {
        let mut invalid = |key: &str, reason: &str| {
            let path: Vec<&str> = path.iter().map(String::as_str).chain([key]).collect();
            let (at, path) = (tree::origin_at(tree, &path), path.join("."));
            faults.push(ConfigError::Invalid { at, path, reason: reason.to_owned() });
        };
        let is_named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        if name.is_empty() || !name.chars().all(is_named) {
            let reason = "is not the name of a PostgreSQL setting: letters, digits, `_` and `.`";
            invalid(&tree::shown(&name), reason);
        } else if value.0.contains(['\n', '\r']) {
            invalid(&name, "contains a line break; write it on one line");
        } else {
            checked.insert(name, value.0);
        }
    }
    ConfigError::all(faults)?;
    Ok(checked)
}

/// A length of time, or the `-1` by which SQLAlchemy says never.
#[derive(Clone, Copy)]
pub(super) enum Span {
    Of(Duration),
    Never,
}

const MILLISECOND: u128 = 1_000_000;
const SECOND: u128 = 1000 * MILLISECOND;

fn span(text: &str, unit: u128) -> Option<Span> {
    if text == "-1" {
        return Some(Span::Never);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, name) = text.split_at(end);
    let unit = match name.trim_start() {
        "" => unit,
        "us" => 1000,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "min" => 60 * SECOND,
        "h" => 3600 * SECOND,
        "d" => 86_400 * SECOND,
        _ => return None,
    };
    let (whole, fraction) =
        number.split_once('.').map_or((number, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut nanos = digits(whole)?.parse::<u64>().ok().map(u128::from)? * unit;
    if let Some(fraction) = fraction {
        let fraction = digits(fraction).filter(|fraction| fraction.len() <= 9)?;
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        nanos += fraction.parse::<u128>().ok()? * unit / scale;
    }
    let seconds = u64::try_from(nanos / SECOND).ok()?;
    Some(Span::Of(Duration::new(seconds, u32::try_from(nanos % SECOND).ok()?)))
}

/// As PostgreSQL and Docker write it: `64MB`, `1g`. A number without a unit may be meant as megabytes.
fn size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let power = match unit.trim_start().to_ascii_lowercase().as_str() {
        "kb" | "k" => 1,
        "mb" | "m" => 2,
        "gb" | "g" => 3,
        "tb" | "t" => 4,
        _ => return None,
    };
    let number: u64 = digits(number)?.parse().ok()?;
    number.checked_mul(1024_u64.pow(power)).filter(|bytes| *bytes > 0)
}

/// Digits only: `parse` would take `+5` as well.
fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}
