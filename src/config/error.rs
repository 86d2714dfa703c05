//! Why a file, an override or a value was refused.

use std::{fmt, io, path::PathBuf};

use super::Origin;

/// Why a file, an override or a value was refused: what, where, and what to do about it.
///
/// No variant holds a value of the file, so that none can show a password: where a value is wrong,
/// the error says where it stands and what should stand there.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no such file.
    #[error("{} does not exist{}{}; create it, or correct its name (searched in {})",
        path.display(), included(included_at), did_you_mean(nearest), folder.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The `!include` that names it; `None` for the file that was asked for.
        included_at: Option<Origin>,
        /// The folder that was searched, in full.
        folder: PathBuf,
        /// The file of that folder that is nearest in spelling.
        nearest: Option<String>,
    },
    /// The file is there but cannot be read: a folder, or no permission.
    #[error("{} cannot be read{}: {cause}", path.display(), included(included_at))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The `!include` that names it; `None` for the file that was asked for.
        included_at: Option<Origin>,
        /// What the operating system says.
        cause: io::Error,
    },
    /// The file holds bytes that are not UTF-8.
    #[error("{at}: not UTF-8; save the file as UTF-8")]
    NotUtf8 {
        /// Line of the first such byte.
        at: Origin,
    },
    /// The file holds no value at all.
    #[error("{at}: empty; add `databases:` or `pgserver:`, or the section that includes it")]
    Empty {
        /// The file, or the variable.
        at: Origin,
    },
    /// Not YAML.
    #[error("{at}: not valid YAML: {message}")]
    Syntax {
        /// Where the parser gave up.
        at: Origin,
        /// What it says.
        message: String,
    },
    /// YAML, but a construct of it that has no meaning here.
    #[error("{at}: {what}")]
    Unsupported {
        /// Where it stands.
        at: Origin,
        /// Which construct, and what to write instead.
        what: String,
    },
    /// Beyond a bound that no real file comes near; guards against files made to exhaust memory.
    #[error("{at}: {what}")]
    TooLarge {
        /// Where the bound was passed.
        at: Origin,
        /// Which bound.
        what: String,
    },
    /// One map has the same key twice.
    #[error("{at}: duplicate key `{key}`, first given at {first}; keep one of them")]
    DuplicateKey {
        /// The second one.
        at: Origin,
        /// The key.
        key: String,
        /// The first one.
        first: Origin,
    },
    /// Files include each other in a circle.
    #[error("{at}: cyclic include: {}", chain.join(" includes "))]
    IncludeCycle {
        /// The `!include` that closes the circle.
        at: Origin,
        /// The files (with `#section`), the last one being the first again.
        chain: Vec<String>,
    },
    /// `!include file#section`, and the file has no such section.
    #[error("{at}: {} has no section `{section}`{}", path.display(), did_you_mean(nearest))]
    IncludeSection {
        /// The `!include`.
        at: Origin,
        /// The file it names.
        path: PathBuf,
        /// The section it asks for.
        section: String,
        /// The section of the file that is nearest in spelling.
        nearest: Option<String>,
    },
    /// A key that means nothing there.
    #[error("{at}: `{path}` is not a setting{}", meant_or_known(nearest, known))]
    UnknownKey {
        /// Where it stands.
        at: Origin,
        /// Its path, as in `databases.production.pool_sise`.
        path: String,
        /// The nearest right key.
        nearest: Option<String>,
        /// All the keys that may stand there.
        known: Vec<&'static str>,
    },
    /// A value of the wrong type.
    #[error("{at}: `{path}` must be {expected}, found {found}")]
    WrongType {
        /// Where it stands.
        at: Origin,
        /// Its path.
        path: String,
        /// What should stand there.
        expected: &'static str,
        /// What kind of value does (never the value).
        found: &'static str,
    },
    /// A value of the right type that cannot be used: a zero pool, for one.
    #[error("{at}: `{path}` {reason}")]
    Invalid {
        /// Where it stands.
        at: Origin,
        /// Its path.
        path: String,
        /// What is wrong with it, and what to write instead.
        reason: String,
    },
    /// A url that cannot be read; it is never shown, for it may hold a password.
    #[error("{at}: `{path}` is not a valid url: {reason}")]
    Url {
        /// Where it stands.
        at: Origin,
        /// Its path.
        path: String,
        /// What is wrong with it, and what to write instead.
        reason: String,
    },
    /// Two ways of saying the same thing in one place.
    #[error("{at}: `{path}` is given by {}; keep one form", keys.join(" and by "))]
    BothForms {
        /// Where the entry begins.
        at: Origin,
        /// Path of the entry.
        path: String,
        /// The keys that clash, each with where it stands.
        keys: Vec<String>,
    },
    /// An entry that does not say where its database is.
    #[error(
        "{at}: `{path}` has neither `url` nor `database`; write `url: postgresql://user:password@host/name`, \
        or `database` with `host`, `port`, `user` and `password`, or `database` with `pgserver: true`"
    )]
    NeitherForm {
        /// Where the entry begins.
        at: Origin,
        /// Path of the entry.
        path: String,
    },
    /// The file has none of wharf's sections.
    #[error("{at}: no `databases:` (or `dbs:`) and no `pgserver:`{}", did_you_mean(nearest))]
    NothingHere {
        /// The file.
        at: Origin,
        /// The section at its top that is nearest in spelling to one of wharf's.
        nearest: Option<String>,
    },
    /// A `${path}` that leads nowhere.
    #[error(
        "{at}: `{path}`: `${{{reference}}}` is not in the file{}; write `$${{` for a plain `${{`",
        did_you_mean(nearest)
    )]
    Unresolved {
        /// Where it stands.
        at: Origin,
        /// Path of the value that holds it.
        path: String,
        /// The path inside `${}`; `…` where that may be part of a secret.
        reference: String,
        /// The nearest path that exists.
        nearest: Option<String>,
    },
    /// References that lead back to where they began.
    #[error("{at}: `{path}`: cyclic reference: {}", chain.join(" -> "))]
    ReferenceCycle {
        /// Where the value stands that was being resolved.
        at: Origin,
        /// Its path.
        path: String,
        /// The paths, the last one being there twice.
        chain: Vec<String>,
    },
    /// A `${path}` inside text that leads to a map or a list.
    #[error(
        "{at}: `{path}`: `${{{reference}}}` is {found}, which cannot be inserted into text; name one value in it"
    )]
    NotText {
        /// Where it stands.
        at: Origin,
        /// Path of the value that holds it.
        path: String,
        /// The path inside `${}`.
        reference: String,
        /// What it leads to.
        found: &'static str,
    },
    /// An environment variable with the prefix that names nothing in the file.
    #[error("the variable {variable} matches nothing in {}{}; unset it, or correct its name",
        path.display(), did_you_mean(nearest))]
    OverrideUnmatched {
        /// The variable.
        variable: String,
        /// The file.
        path: PathBuf,
        /// The nearest variable that would match.
        nearest: Option<String>,
    },
    /// An environment variable that could mean either of two values, or two that mean the same one.
    #[error("{} is ambiguous: {}; {remedy}", variables.join(" and "), paths.join(" or "))]
    OverrideAmbiguous {
        /// The variable, or the two of them.
        variables: Vec<String>,
        /// The paths that match.
        paths: Vec<String>,
        /// What to do.
        remedy: &'static str,
    },
    /// An environment variable with the prefix whose value is not UTF-8.
    #[error("the variable {variable} is not UTF-8; set it to UTF-8 text")]
    OverrideNotUtf8 {
        /// The variable.
        variable: String,
    },
    /// Several of these, in the order in which they were found.
    #[error("{} faults:{}", .0.len(), list(.0))]
    Several(Vec<ConfigError>),
    /// A prefix for overrides that would take every variable for one.
    #[error(
        "the prefix for overrides is empty; set one, such as INFRA, or pass `env([])` for no overrides"
    )]
    EmptyPrefix,
}

crate::debug::debug_is_message!(ConfigError);

fn list(faults: &[ConfigError]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

fn did_you_mean(nearest: &Option<String>) -> impl fmt::Display {
    match nearest {
        Some(name) => format!("; the nearest is `{name}`"),
        None => String::new(),
    }
}

fn meant_or_known(nearest: &Option<String>, known: &[&str]) -> String {
    match nearest {
        Some(_) => did_you_mean(nearest).to_string(),
        None => format!("; known: {}", known.join(", ")),
    }
}

fn included(at: &Option<Origin>) -> impl fmt::Display {
    match at {
        Some(at) => format!(" (included at {at})"),
        None => String::new(),
    }
}

// The crate `config` carries the errors of its sources as boxes; ours come back out as they went in.
impl From<ConfigError> for ::config::ConfigError {
    fn from(error: ConfigError) -> Self {
        Self::Foreign(Box::new(error))
    }
}

impl ConfigError {
    /// All of these as one; `Ok` if there is none.
    pub(super) fn all(errors: Vec<ConfigError>) -> Result<(), ConfigError> {
        let mut all = Vec::new();
        for error in errors {
            match error {
                ConfigError::Several(faults) => all.extend(faults),
                fault => all.push(fault),
            }
        }
        match all.len() {
            0 => Ok(()),
            1 => all.pop().map_or(Ok(()), Err),
            _ => Err(ConfigError::Several(all)),
        }
    }

    pub(super) fn from_source(error: ::config::ConfigError, at: impl FnOnce() -> Origin) -> Self {
        match error {
            ::config::ConfigError::Foreign(inner) => match inner.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(_) => Self::unexplained(at()),
            },
            _ => Self::unexplained(at()),
        }
    }

    // Not the other error's own text: it may quote a value.
    fn unexplained(at: Origin) -> Self {
        Self::Unsupported { at, what: "the file could not be read as a tree of values".to_owned() }
    }
}
