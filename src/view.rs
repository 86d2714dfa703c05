//! What a view of a database adds to each of its transactions: a schema, and settings.

use std::sync::Arc;

use crate::sql::{self, quote_ident, quote_literal};

/// The schema and the settings of a view. Sessions send them with BEGIN, and PostgreSQL forgets them with the
/// transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    scope: Option<Scope>,
    settings: Vec<(String, String)>,
}

/// The first part of the search path of a scoped view: a checked name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    name: Arc<str>,
}

impl View {
    /// The same view, seen from another schema, or from none.
    pub(crate) fn in_scope(&self, scope: Option<Scope>) -> View {
        View { scope, settings: self.settings.clone() }
    }

    /// The same view with one setting more. The last of one name holds.
    pub(crate) fn with_setting(&self, name: String, value: String) -> View {
        let mut settings = self.settings.clone();
        settings.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
        settings.push((name, value));
        View { scope: self.scope.clone(), settings }
    }

    pub(crate) fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    pub(crate) fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.scope.is_none() && self.settings.is_empty()
    }
}

impl Scope {
    /// `name` has been checked.
    pub(crate) fn new(name: &str) -> Scope {
        Scope { name: name.into() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The search path in it, followed by the entry's own, if it has one. Never by `public` alone: where
    /// the schema does not exist, everything would be created there.
    pub(crate) fn path(&self, shared: Option<&str>) -> String {
        let own = quote_ident(&self.name);
        match shared.filter(|shared| !shared.trim().is_empty()) {
            Some(shared) => sql::with_public(&format!("{own}, {shared}")),
            None => own,
        }
    }

    /// The same as `SET` takes it, to which an unquoted name may be a keyword.
    pub(crate) fn quoted_path(&self, shared: Option<&str>) -> String {
        let all = sql::names_of(&self.path(shared));
        all.iter().map(|name| quote_ident(name)).collect::<Vec<_>>().join(", ")
    }
}

/// A call of `set_config`, which takes a list as one text; SET does not. The setting ends with the transaction if
/// `is_local`.
pub(crate) fn set_config(name: &str, value: &str, is_local: bool) -> String {
    format!("set_config({}, {}, {is_local})", quote_literal(name), quote_literal(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tenants_share_stands_behind_their_own() {
        let scope = Scope::new("a\"b, c");
        assert_eq!(scope.path(None), "\"a\"\"b, c\"");
        assert_eq!(scope.path(Some("extensions, public")), "\"a\"\"b, c\", extensions, public");
    }

    #[test]
    fn the_last_setting_of_a_name_holds() {
        let view = View::default().with_setting("app.tenant".into(), "1".into());
        let view = view.with_setting("APP.tenant".into(), "2".into());
        assert_eq!(view.settings(), [("APP.tenant".to_owned(), "2".to_owned())]);
    }
}
