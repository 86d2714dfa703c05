//! The names that a schema gets in Rust.
//!
//! Fields and modules are in snake case, enums and their values in upper camel case. Characters that an identifier cannot
//! have are left out. A name without any other is written as its code points (`%` is `u0025`). A name that begins with a
//! digit gets a prefix (`column_2fa`), one that is reserved a suffix (`self_column`, `mod_table`). If two names become the
//! same, the one that is unchanged keeps it, and the other gets a number (`user_data_2`). docs/entities.md has the rules for
//! users.

use std::collections::{HashMap, HashSet};

use heck::{ToSnakeCase as _, ToUpperCamelCase as _};

/// Of every edition; `r#` makes an identifier of each.
const KEYWORDS: [&str; 49] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let",
    "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return",
    "static", "struct", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield", "union",
];

/// Keywords that cannot be raw identifiers.
const PATHS: [&str; 3] = ["crate", "self", "super"];

/// Names of other files of the crate, of a file that cargo builds as a program, and of devices on Windows.
const FILES: [&str; 9] =
    ["lib", "mod", "main", "prelude", "sea_orm_active_enums", "aux", "con", "nul", "prn"];

/// Types that the generated code uses or defines, so no enum can have their names.
const TYPES: [&str; 32] = [
    "ActiveModel",
    "ActiveModelBehavior",
    "ActiveModelEx",
    "BelongsTo",
    "Column",
    "Date",
    "DateTime",
    "DateTimeWithTimeZone",
    "Decimal",
    "Deserialize",
    "Entity",
    "EntityLoader",
    "EntityLoaderWith",
    "HasMany",
    "HasOne",
    "IpNetwork",
    "Json",
    "Model",
    "ModelEx",
    "Option",
    "PgVector",
    "PrimaryKey",
    "RelatedEntity",
    "Relation",
    "Result",
    "Self",
    "Serialize",
    "String",
    "StringLen",
    "Time",
    "Uuid",
    "Vec",
];

/// The names of one namespace.
#[derive(Default)]
pub(super) struct Names {
    /// In upper camel case, because SeaORM's macros name columns so.
    taken: HashSet<String>,
}

impl Names {
    /// The name if it is free, else the first of `name_2`, `name_3`, …
    pub(super) fn claim(&mut self, name: &str) -> String {
        let numbered = (2..).map(|n| format!("{name}_{n}"));
        let mut all = std::iter::once(name.to_owned()).chain(numbered);
        all.find(|name| self.taken.insert(name.to_upper_camel_case())).unwrap_or_default()
    }

    pub(super) fn is_free(&self, name: &str) -> bool {
        !self.taken.contains(&name.to_upper_camel_case())
    }

    /// Claims a name for each, those first that are such a name already.
    pub(super) fn claim_all(&mut self, all: &[&str], name: impl Fn(&str) -> String) -> Vec<String> {
        let mut claimed = vec![String::new(); all.len()];
        for pass in [true, false] {
            for (at, one) in all.iter().enumerate().filter(|(_, one)| (name(one) == **one) == pass)
            {
                claimed[at] = self.claim(&name(one));
            }
        }
        claimed
    }
}

/// The module of a table.
pub(super) fn module(table: &str) -> String {
    let name = snake(table, "table");
    if FILES.contains(&name.as_str()) { format!("{name}_table") } else { name }
}

/// The field of a column.
pub(super) fn field(column: &str) -> String {
    snake(column, "column")
}

/// The types of enums. SeaORM's macros derive two others from each.
pub(super) fn enums(names: &[&str]) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut claim = |name: &str| {
        let mut camel = camel(name, "Enum");
        if TYPES.contains(&camel.as_str()) {
            camel.push_str("Enum");
        }
        let numbered = (2..).map(|n| format!("{camel}{n}"));
        let mut all = std::iter::once(camel.clone()).chain(numbered);
        let derived =
            |name: &str| [name.to_owned(), format!("{name}Enum"), format!("{name}Variant")];
        let free = all.find(|name| derived(name).iter().all(|it| !taken.contains(it)));
        let free = free.unwrap_or_default();
        taken.extend(derived(&free));
        free
    };
    names.iter().map(|name| claim(name)).collect()
}

/// The variants of an enum's values.
pub(super) fn variants(labels: &[String]) -> Vec<String> {
    let mut taken = HashSet::from(["Self".to_owned()]);
    let mut claim = |label: &String| {
        let camel = camel(label, "Value");
        let numbered = (2..).map(|n| format!("{camel}{n}"));
        let mut all = std::iter::once(camel.clone()).chain(numbered);
        all.find(|name| taken.insert(name.clone())).unwrap_or_default()
    };
    labels.iter().map(&mut claim).collect()
}

/// Why SeaORM cannot have such an enum. Its macros name a variant after each value by a rule of their own, which has no
/// case.
pub(super) fn problem_of_enum(name: &str, labels: &[String]) -> Option<String> {
    if name.contains('"') {
        return Some("SeaORM does not escape the quote in its name".to_owned());
    }
    let mut seen: HashMap<String, &str> = HashMap::new();
    for label in labels {
        let folded: String = label.to_lowercase();
        if folded == "self" {
            return Some(format!("SeaORM cannot name a variant after its value {label}"));
        }
        if let Some(other) = seen.insert(folded, label) {
            return Some(format!("its values {other} and {label} differ by case only"));
        }
    }
    labels.is_empty().then(|| "it has no values".to_owned())
}

/// As an identifier, by `r#` if need be.
pub(super) fn ident(name: &str) -> String {
    if KEYWORDS.contains(&name) { format!("r#{name}") } else { name.to_owned() }
}

/// The name that SeaORM's macros give the column of a field.
pub(super) fn column_of(field: &str) -> String {
    match field.is_ascii() {
        true => field.to_upper_camel_case().to_snake_case(),
        // The compiler normalizes such an identifier, so the column is always named.
        false => String::new(),
    }
}

/// The part of a method's name that stands for an index.
pub(super) fn key(index: &str) -> String {
    let name = snake(index, "key");
    if KEYWORDS.contains(&name.as_str()) { format!("{name}_key") } else { name }
}

fn snake(name: &str, what: &str) -> String {
    let snake = usable(name).to_snake_case();
    match snake.as_str() {
        "" => hex(name),
        path if PATHS.contains(&path) => format!("{path}_{what}"),
        _ if !begins_well(&snake) => format!("{what}_{snake}"),
        _ => snake,
    }
}

fn camel(name: &str, what: &str) -> String {
    let camel = usable(name).to_upper_camel_case();
    match camel.as_str() {
        "" if name.is_empty() => format!("Empty{what}"),
        "" => hex(name).to_upper_camel_case(),
        "Self" => format!("Self{what}"),
        _ if !begins_well(&camel) => format!("{what}{camel}"),
        _ => camel,
    }
}

/// Replaces characters that an identifier cannot have by spaces.
fn usable(name: &str) -> String {
    name.chars().map(|it| if unicode_ident::is_xid_continue(it) { it } else { ' ' }).collect()
}

fn begins_well(name: &str) -> bool {
    name.chars().next().is_some_and(unicode_ident::is_xid_start)
}

fn hex(name: &str) -> String {
    let each: Vec<String> = name.chars().map(|it| format!("u{:04x}", u32::from(it))).collect();
    each.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_becomes_an_identifier() {
        for (column, expected) in [
            ("id", "id"),
            ("UserData", "user_data"),
            ("x-large", "x_large"),
            ("2fa", "column_2fa"),
            ("%", "u0025"),
            ("_", "u005f"),
            ("self", "self_column"),
            ("Self", "self_column"),
            ("type", "type"),
            ("a b", "a_b"),
            ("größe", "größe"),
            ("a😀b", "a_b"),
        ] {
            assert_eq!(field(column), expected, "{column}");
            syn::parse_str::<syn::Ident>(&ident(&field(column))).unwrap();
        }
        assert_eq!((module("mod"), module("crate")), ("mod_table".into(), "crate_table".into()));
    }

    #[test]
    fn of_two_that_are_the_same_the_one_that_is_so_already_keeps_the_name() {
        let mut names = Names::default();
        let all = names.claim_all(&["UserData", "user_data", "a1", "a_1"], field);
        // `a1` and `a_1` are both `A1` as a variant.
        assert_eq!(all, ["user_data_2", "user_data", "a1", "a_1_2"]);
    }

    #[test]
    fn enums_and_values_differ_and_hide_nothing() {
        assert_eq!(enums(&["mood", "mood_enum", "string"]), ["Mood", "MoodEnum2", "StringEnum"]);
        let labels = ["x-large", "X_large", "", "self", "1"].map(str::to_owned);
        assert_eq!(variants(&labels), ["XLarge", "XLarge2", "EmptyValue", "SelfValue", "Value1"]);
    }
}
