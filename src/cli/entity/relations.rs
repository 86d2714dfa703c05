//! The relations that foreign keys become.
//!
//! Where one foreign key is all that joins two tables, its relations are named after the tables, and SeaORM's `Related` is
//! implemented: `purchase.customer`, `customer.purchases`. Otherwise each is named after its key's columns
//! (`post.author`, `post.editor`, `user.posts_by_author`), and has a variant of its own in the enum `Relation`.

use heck::ToUpperCamelCase as _;
use pluralizer::pluralize;

use super::catalog::ForeignKey;
use super::entity::{Entities, Entity, Field, MOST_KEY_COLUMNS};
use super::names;

/// A foreign key between two entities, by their positions.
#[derive(Clone, Copy)]
struct Link<'a> {
    key: &'a ForeignKey,
    child: usize,
    parent: usize,
}

/// Adds a relation at both ends of each foreign key, and a note about each key that can have none.
pub(super) fn add(entities: &mut Entities<'_>) {
    let links = links(entities);
    let (alone, together): (Vec<Link<'_>>, Vec<Link<'_>>) =
        links.iter().partition(|link| is_alone(&links, link));
    for link in &alone {
        link.name_by_table(entities);
    }
    for (junction, at, other) in many_to_many(entities, &links, &alone) {
        let via = names::ident(&entities.all[junction].module);
        let module = entities.all[other].module.clone();
        let attributes = vec!["has_many".to_owned(), format!("via = {via:?}")];
        entities.all[at].claim_variant(&module);
        entities.all[at].relate(&plural(&module), attributes, has_many(&path(&module)));
    }
    for link in &together {
        link.name_by_column(entities, &together);
    }
}

fn links<'a>(entities: &mut Entities<'a>) -> Vec<Link<'a>> {
    let mut links = Vec::new();
    let mut notes = Vec::new();
    for (child, entity) in entities.all.iter().enumerate() {
        for key in &entity.table.foreign {
            match parent(entities, entity, key) {
                Ok(parent) => links.push(Link { key, child, parent }),
                Err(why) => notes.push(format!(
                    "table {}, foreign key {}: gets no relation, because {why}",
                    entity.table.name, key.name
                )),
            }
        }
    }
    entities.notes.extend(notes);
    links
}

/// The position of the entity that a key refers to, or why there can be no relation.
fn parent(entities: &Entities<'_>, child: &Entity<'_>, key: &ForeignKey) -> Result<usize, String> {
    if key.is_temporal {
        return Err("it compares periods, and SeaORM compares for equality".to_owned());
    }
    if key.columns.len() > MOST_KEY_COLUMNS {
        return Err(format!("SeaORM takes keys of at most {MOST_KEY_COLUMNS} columns"));
    }
    let position = entities.all.iter().position(|it| it.table.oid == key.target);
    let Some(position) = position else {
        return Err(format!("there is no entity of {}", key.target_name));
    };
    for (from, to) in key.columns.iter().zip(&key.target_columns) {
        if let (Some(from), Some(to)) = (child.field(*from), entities.all[position].field(*to)) {
            from.mapped.check_key(&from.column.kind, &to.mapped, &to.column.kind)?;
        }
    }
    Ok(position)
}

/// Whether nothing else joins its two tables.
fn is_alone(links: &[Link<'_>], link: &Link<'_>) -> bool {
    link.child != link.parent
        && links.iter().filter(|it| it.joins(link.child, link.parent)).count() == 1
}

/// Tables whose primary key is made of two foreign keys, to two tables that nothing else joins: the junction, one of the
/// two, and the other, in both directions.
fn many_to_many(
    entities: &mut Entities<'_>,
    links: &[Link<'_>],
    alone: &[Link<'_>],
) -> Vec<(usize, usize, usize)> {
    let (mut found, mut notes) = (Vec::new(), Vec::new());
    for (junction, entity) in entities.all.iter().enumerate() {
        let primary = &entity.table.primary;
        let is_part = |it: &&Link<'_>| {
            it.child == junction && it.key.columns.iter().all(|column| primary.contains(column))
        };
        let parts: Vec<&Link<'_>> = alone.iter().filter(is_part).collect();
        let [one, other] = parts[..] else { continue };
        let is_whole = primary
            .iter()
            .all(|column| one.key.columns.contains(column) || other.key.columns.contains(column));
        if is_whole && !links.iter().any(|it| it.joins(one.parent, other.parent)) {
            // SeaORM reads the key of a junction without the casts of its entity.
            let needs_cast =
                |field: &&Field<'_>| field.mapped.is_text() || field.column.kind.class == "e";
            let mut keys = primary.iter().filter_map(|column| entity.field(*column));
            if let Some(field) = keys.find(needs_cast) {
                notes.push(format!(
                    "table {}, column {}: gives {} and {} no many-to-many relation, because SeaORM cannot read a key of \
                     type {} in a junction table",
                    entity.table.name,
                    field.column.name,
                    entities.all[one.parent].table.name,
                    entities.all[other.parent].table.name,
                    field.column.kind.declared
                ));
                continue;
            }
            found.push((junction, one.parent, other.parent));
            found.push((junction, other.parent, one.parent));
        }
    }
    entities.notes.extend(notes);
    // Two junctions between the same tables would need two relations of one name.
    let pairs: Vec<(usize, usize)> = found.iter().map(|it| (it.1, it.2)).collect();
    found.retain(|it| pairs.iter().filter(|pair| **pair == (it.1, it.2)).count() == 1);
    found
}

impl Link<'_> {
    fn joins(&self, one: usize, other: usize) -> bool {
        (self.child, self.parent) == (one, other) || (self.child, self.parent) == (other, one)
    }

    fn name_by_table(&self, entities: &mut Entities<'_>) {
        let parent = entities.all[self.parent].module.clone();
        let child = entities.all[self.child].module.clone();
        let mut attributes = vec!["belongs_to".to_owned()];
        attributes.extend(self.ends(entities));
        let rust = self.belongs_to(entities, &path(&parent));
        entities.all[self.child].claim_variant(&parent);
        entities.all[self.child].relate(&parent, attributes, rust);

        let is_one = self.is_one(&entities.all[self.child]);
        let at = &mut entities.all[self.parent];
        at.claim_variant(&child);
        if is_one {
            let rust = format!("HasOne<{}>", path(&child));
            at.relate(&child, vec!["has_one".to_owned()], rust);
        } else {
            at.relate(&plural(&child), vec!["has_many".to_owned()], has_many(&path(&child)));
        }
    }

    fn name_by_column(&self, entities: &mut Entities<'_>, together: &[Link<'_>]) {
        let is_self = self.child == self.parent;
        let child = entities.all[self.child].module.clone();
        let parent = entities.all[self.parent].module.clone();
        let (to_parent, to_child) = match is_self {
            true => ("Entity".to_owned(), "Entity".to_owned()),
            false => (path(&parent), path(&child)),
        };
        let ends = self.ends(entities);
        let rust = self.belongs_to(entities, &to_parent);
        let name = self.name(&entities.all[self.child], together, &parent);
        let reverse_name = format!("{}_by_{name}", plural(&child));
        let kind = |otherwise: &str| if is_self { "self_ref" } else { otherwise }.to_owned();

        let at = &mut entities.all[self.child];
        let variant = at.claim_variant(&name);
        let mut attributes = vec![kind("belongs_to"), format!("relation_enum = {variant:?}")];
        attributes.extend(ends);
        at.relate(&name, attributes, rust);

        let at = &mut entities.all[self.parent];
        let reverse = at.claim_variant(&reverse_name);
        let by = if is_self { "relation_reverse" } else { "via_rel" };
        let attributes = vec![
            kind("has_many"),
            format!("relation_enum = {reverse:?}"),
            format!("{by} = {variant:?}"),
        ];
        at.relate(&reverse_name, attributes, has_many(&to_child));
    }

    /// The name of a key by its columns, without those that all keys between the two tables have, such as a tenant's.
    fn name(&self, child: &Entity<'_>, together: &[Link<'_>], parent: &str) -> String {
        let others = together.iter().filter(|it| {
            it.key.name != self.key.name && (it.child, it.parent) == (self.child, self.parent)
        });
        let others: Vec<&ForeignKey> = others.map(|it| it.key).collect();
        let is_shared = |column: &&i16| {
            !others.is_empty() && others.iter().all(|key| key.columns.contains(column))
        };
        let mut own: Vec<&i16> = self.key.columns.iter().filter(|it| !is_shared(it)).collect();
        if own.is_empty() {
            own = self.key.columns.iter().collect();
        }
        let names = own.into_iter().filter_map(|column| child.field(*column));
        let names: Vec<&str> = names.map(|field| field.name.as_str()).collect();
        let name = names.join("_");
        match name.strip_suffix("_id") {
            Some(name) => name.to_owned(),
            None if name == "id" => parent.to_owned(),
            None => name,
        }
    }

    /// The attributes for its columns at both ends, and for its actions ON UPDATE and ON DELETE.
    fn ends(&self, entities: &Entities<'_>) -> Vec<String> {
        let columns = |of: usize, numbers: &[i16]| {
            let fields = numbers.iter().filter_map(|number| entities.all[of].field(*number));
            let names: Vec<String> = fields.map(column_of).collect();
            if let [only] = &names[..] { only.clone() } else { format!("({})", names.join(", ")) }
        };
        vec![
            format!("from = {:?}", columns(self.child, &self.key.columns)),
            format!("to = {:?}", columns(self.parent, &self.key.target_columns)),
            format!("on_update = {:?}", action(&self.key.on_update)),
            format!("on_delete = {:?}", action(&self.key.on_delete)),
        ]
    }

    fn belongs_to(&self, entities: &Entities<'_>, to: &str) -> String {
        let child = &entities.all[self.child];
        let fields = self.key.columns.iter().filter_map(|number| child.field(*number));
        match fields.into_iter().all(|field| field.column.not_null) {
            true => format!("BelongsTo<{to}>"),
            false => format!("BelongsTo<Option<{to}>>"),
        }
    }

    /// Whether at most one row refers to a row.
    fn is_one(&self, child: &Entity<'_>) -> bool {
        let unique = child.table.unique.iter().map(|key| &key.columns);
        let mut keys = unique.chain([&child.table.primary]);
        keys.any(|key| key.iter().all(|column| self.key.columns.contains(column)))
    }
}

/// A field as the attributes `from` and `to` name it. They take no keyword, but also the variant of `Column`.
fn column_of(field: &Field<'_>) -> String {
    match names::ident(&field.name) == field.name {
        true => field.name.clone(),
        false => field.name.to_upper_camel_case(),
    }
}

/// SeaORM's name for an action, from PostgreSQL's letter.
fn action(letter: &str) -> &'static str {
    match letter {
        "r" => "Restrict",
        "c" => "Cascade",
        "n" => "SetNull",
        "d" => "SetDefault",
        _ => "NoAction",
    }
}

fn path(module: &str) -> String {
    format!("super::{}::Entity", names::ident(module))
}

fn has_many(entity: &str) -> String {
    format!("HasMany<{entity}>")
}

fn plural(name: &str) -> String {
    pluralize(name, 2, false)
}
