//! The entities of a schema, with their names, types and relations, and notes about what they lack.

use std::collections::{BTreeSet, HashMap};

use heck::ToUpperCamelCase as _;

use super::catalog::{self, Schema, Table};
use super::names::{self, Names};
use super::relations;
use super::types::Mapped;

/// The most columns that SeaORM takes for a key.
pub(super) const MOST_KEY_COLUMNS: usize = 12;

pub(super) struct Entities<'a> {
    /// By module, in alphabetical order.
    pub(super) all: Vec<Entity<'a>>,
    pub(super) enums: Vec<Enum<'a>>,
    /// Sentences for the user: which parts of the schema the entities lack, and why.
    pub(super) notes: Vec<String>,
    /// The features of sea-orm that its types need.
    pub(super) features: BTreeSet<&'static str>,
}

pub(super) struct Entity<'a> {
    pub(super) table: &'a Table,
    pub(super) module: String,
    pub(super) fields: Vec<Field<'a>>,
    pub(super) relations: Vec<Relation>,
    /// The names of its fields, relations included.
    names: Names,
    /// The variants of the enum `Relation`.
    variants: Names,
}

/// A column.
pub(super) struct Field<'a> {
    pub(super) column: &'a catalog::Column,
    pub(super) name: String,
    pub(super) mapped: Mapped,
    /// `unique`, and a `unique_key` for each unique index over several columns.
    unique: Vec<String>,
}

pub(super) struct Relation {
    pub(super) name: String,
    pub(super) attributes: Vec<String>,
    pub(super) rust: String,
}

pub(super) struct Enum<'a> {
    pub(super) oid: i64,
    pub(super) name: &'a str,
    pub(super) rust: String,
    /// The variants and their values.
    pub(super) variants: Vec<(String, &'a str)>,
}

impl<'a> Entities<'a> {
    pub(super) fn new(schema: &'a Schema) -> Entities<'a> {
        let mut notes = Vec::new();
        let enums = enums(schema, &mut notes);
        let types: HashMap<i64, &str> = enums.iter().map(|it| (it.oid, it.rust.as_str())).collect();
        let tables: Vec<&Table> =
            schema.tables.iter().filter(|table| has_usable_key(table, &mut notes)).collect();
        let table_names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let modules = Names::default().claim_all(&table_names, names::module);
        let mut all = Vec::new();
        for (table, module) in tables.into_iter().zip(modules) {
            let mapped = |column: &catalog::Column| {
                let is_primary = table.primary.contains(&column.number);
                let of_enum = |oid| types.get(&oid).map(|rust: &&str| (*rust).to_owned());
                Mapped::new(&column.kind, is_primary, of_enum)
            };
            all.push(Entity::new(schema, table, module, mapped, &mut notes));
        }
        all.sort_by(|a, b| a.module.cmp(&b.module));
        let used: BTreeSet<i64> = all.iter().flat_map(Entity::enums).collect();
        let enums = enums.into_iter().filter(|it| used.contains(&it.oid)).collect();
        let mapped = all.iter().flat_map(|entity| &entity.fields);
        let features = mapped.filter_map(|field| field.mapped.feature).collect();
        let mut entities = Entities { all, enums, notes, features };
        relations::add(&mut entities);
        entities
    }

    /// The Rust types of an entity's enums.
    pub(super) fn enums_of(&self, entity: &Entity<'_>) -> BTreeSet<&str> {
        let used: BTreeSet<i64> = entity.enums().collect();
        self.enums.iter().filter(|it| used.contains(&it.oid)).map(|it| it.rust.as_str()).collect()
    }
}

impl<'a> Entity<'a> {
    fn new(
        schema: &Schema,
        table: &'a Table,
        module: String,
        mapped: impl Fn(&catalog::Column) -> Mapped,
        notes: &mut Vec<String>,
    ) -> Entity<'a> {
        let columns: Vec<&catalog::Column> =
            table.columns.iter().filter(|column| is_kept(schema, table, column, notes)).collect();
        let column_names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let mut names = Names::default();
        let field_names = names.claim_all(&column_names, names::field);
        let fields = columns.into_iter().zip(field_names).map(|(column, name)| Field {
            column,
            name,
            mapped: mapped(column),
            unique: Vec::new(),
        });
        let fields = fields.collect();
        let variants = Names::default();
        let mut entity = Entity { table, module, fields, relations: Vec::new(), names, variants };
        entity.add_unique();
        entity
    }

    pub(super) fn field(&self, number: i16) -> Option<&Field<'a>> {
        self.fields.iter().find(|field| field.column.number == number)
    }

    pub(super) fn is_eq(&self) -> bool {
        self.fields.iter().all(|field| field.mapped.is_eq)
    }

    /// Adds a relation under this name, or the next that is free.
    pub(super) fn relate(&mut self, name: &str, attributes: Vec<String>, rust: String) {
        let name = self.claim(name);
        self.relations.push(Relation { name, attributes, rust });
    }

    /// Claims the name of a relation. A column keeps its name, so the relation gets another one.
    fn claim(&mut self, name: &str) -> String {
        match self.names.is_free(name) {
            true => self.names.claim(name),
            false => self.names.claim(&format!("{name}_relation")),
        }
    }

    /// Claims a variant of the enum `Relation`.
    pub(super) fn claim_variant(&mut self, name: &str) -> String {
        self.variants.claim(name).to_upper_camel_case()
    }

    fn enums(&self) -> impl Iterator<Item = i64> {
        let is_enum =
            |field: &&Field<'_>| field.column.kind.class == "e" && !field.mapped.is_text();
        self.fields.iter().filter(is_enum).map(|field| field.column.kind.oid)
    }

    /// Marks unique columns, of which SeaORM's macros make methods such as `find_by_email`. Columns that are named like a
    /// keyword are not marked, because the macros do not compile with those.
    fn add_unique(&mut self) {
        let mut methods = Names::default();
        for field in &self.fields {
            methods.claim(&field.name);
        }
        // SeaORM's own `find_by_id`.
        methods.claim("id");
        for key in &self.table.unique {
            let at = |number: &i16| self.fields.iter().position(|it| it.column.number == *number);
            let Some(parts) = key.columns.iter().map(at).collect::<Option<Vec<_>>>() else {
                continue;
            };
            let names: Vec<&str> = parts.iter().map(|at| self.fields[*at].name.as_str()).collect();
            if names.iter().any(|name| names::ident(name) != *name) {
                continue;
            }
            match parts[..] {
                [only] if self.fields[only].name != "id" => {
                    let unique = &mut self.fields[only].unique;
                    if unique.first().is_none_or(|it| it != "unique") {
                        unique.insert(0, "unique".to_owned());
                    }
                }
                [_] => {}
                _ => {
                    let name = methods.claim(&names::key(&key.name));
                    for at in parts {
                        self.fields[at].unique.push(format!("unique_key = {name:?}"));
                    }
                }
            }
        }
    }
}

impl Field<'_> {
    /// The contents of its `#[sea_orm(…)]`.
    pub(super) fn attributes(&self, table: &Table) -> Vec<String> {
        let mut all = Vec::new();
        if names::column_of(&self.name) != self.column.name {
            all.push(format!("column_name = {:?}", self.column.name));
        }
        if table.primary.contains(&self.column.number) {
            all.push("primary_key".to_owned());
            if !self.column.is_serial {
                all.push("auto_increment = false".to_owned());
            }
        }
        all.extend(self.mapped.attributes.iter().cloned());
        if !self.column.not_null && !self.mapped.attributes.is_empty() {
            all.push("nullable".to_owned());
        }
        all.extend(self.unique.iter().cloned());
        all
    }

    pub(super) fn rust(&self) -> String {
        match self.column.not_null {
            true => self.mapped.rust.clone(),
            false => format!("Option<{}>", self.mapped.rust),
        }
    }
}

/// Whether the table has a primary key that SeaORM can use.
fn has_usable_key(table: &Table, notes: &mut Vec<String>) -> bool {
    let why = match table.primary.len() {
        0 => "it has no primary key, which SeaORM needs".to_owned(),
        1..=MOST_KEY_COLUMNS => return true,
        many => format!(
            "its primary key has {many} columns, and SeaORM takes at most {MOST_KEY_COLUMNS}"
        ),
    };
    notes.push(format!("table {} gets no entity, because {why}", table.name));
    false
}

/// Whether the entity has a column. A computed one cannot be written, so it is there only if a key needs it.
fn is_kept(
    schema: &Schema,
    table: &Table,
    column: &catalog::Column,
    notes: &mut Vec<String>,
) -> bool {
    if !column.is_computed {
        return true;
    }
    let mut keys = schema.tables.iter().flat_map(|it| it.foreign.iter().map(move |key| (it, key)));
    let is_key = table.primary.contains(&column.number)
        || keys.any(|(of, key)| {
            of.oid == table.oid && key.columns.contains(&column.number)
                || key.target == table.oid && key.target_columns.contains(&column.number)
        });
    notes.push(match is_key {
        true => format!(
            "table {}, column {}: do not set it, because the server computes it (GENERATED ALWAYS AS); it is part of \
             a key",
            table.name, column.name
        ),
        false => format!(
            "table {}, column {}: left out, because the server computes it (GENERATED ALWAYS AS)",
            table.name, column.name
        ),
    });
    is_key
}

/// The enums for which SeaORM can have a Rust enum. Columns of the others are text.
fn enums<'a>(schema: &'a Schema, notes: &mut Vec<String>) -> Vec<Enum<'a>> {
    let used = |oid: i64| {
        let columns = schema.tables.iter().flat_map(|table| &table.columns);
        columns.into_iter().any(|column| column.kind.oid == oid && column.kind.is_visible)
    };
    let usable = schema.enums.iter().filter(|it| used(it.oid)).filter(|it| {
        let problem = names::problem_of_enum(&it.name, &it.labels);
        if let Some(why) = &problem {
            notes.push(format!("type {}: its columns are text, because {why}", it.name));
        }
        problem.is_none()
    });
    let usable: Vec<&catalog::Enum> = usable.collect();
    let type_names: Vec<&str> = usable.iter().map(|it| it.name.as_str()).collect();
    let rust = names::enums(&type_names).into_iter();
    let enums = usable.into_iter().zip(rust).map(|(it, rust)| Enum {
        oid: it.oid,
        name: &it.name,
        rust,
        variants: names::variants(&it.labels)
            .into_iter()
            .zip(it.labels.iter().map(String::as_str))
            .collect(),
    });
    enums.collect()
}
