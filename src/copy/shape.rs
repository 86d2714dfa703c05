//! Which columns the rows have, and their values in that order.

use sea_orm::{
    ActiveModelTrait as _, ActiveValue, EntityTrait, IdenStatic as _, Iterable as _, Value,
    sea_query::ValueTuple,
};

use super::column::Column;

/// A row that has not the columns of the first one.
pub(super) struct Odd {
    pub(super) column: Option<String>,
    pub(super) why: String,
}

/// The columns of rows of one kind. The first row has the say.
pub(super) trait Shape: Sized + Send {
    type Row: Send;

    /// With the places of its columns among those of the table.
    fn new(
        first: &Self::Row,
        named: &[String],
        table: &[Column],
    ) -> Result<(Self, Vec<usize>), String>;

    /// The values of a row, in the order of the columns.
    fn values(&self, row: Self::Row, values: &mut Vec<Value>) -> Result<(), Odd>;
}

/// The places of those that are named, each of them once.
pub(super) fn named(names: &[String], table: &[Column]) -> Result<Vec<usize>, String> {
    let mut places = Vec::with_capacity(names.len());
    for name in names {
        let Some(at) = table.iter().position(|column| column.name == *name) else {
            let columns: Vec<&str> = table.iter().map(|column| &*column.name).collect();
            return Err(format!("it has no column `{name}`; it has {}", columns.join(", ")));
        };
        if table.get(at).is_some_and(|column| column.generated) {
            return Err(format!("column `{name}` is generated: the server makes its values"));
        }
        if places.contains(&at) {
            return Err(format!("column `{name}` is named twice"));
        }
        places.push(at);
    }
    Ok(places)
}

/// Tuples.
pub(super) struct OfTuples(usize);

impl Shape for OfTuples {
    type Row = ValueTuple;

    fn new(
        _: &ValueTuple,
        names: &[String],
        table: &[Column],
    ) -> Result<(OfTuples, Vec<usize>), String> {
        let places = named(names, table)?;
        if places.is_empty() {
            return Err("no column of it was named".to_owned());
        }
        Ok((OfTuples(places.len()), places))
    }

    fn values(&self, row: ValueTuple, values: &mut Vec<Value>) -> Result<(), Odd> {
        match row {
            ValueTuple::One(a) => values.push(a),
            ValueTuple::Two(a, b) => values.extend([a, b]),
            ValueTuple::Three(a, b, c) => values.extend([a, b, c]),
            ValueTuple::Many(many) => values.extend(many),
        }
        match values.len() == self.0 {
            true => Ok(()),
            false => Err(Odd {
                column: None,
                why: format!("it has {} values for {} columns", values.len(), self.0),
            }),
        }
    }
}

/// Models and active models.
pub(super) struct OfEntity<E: EntityTrait> {
    set: Vec<E::Column>,
    /// Those that the first row leaves to their defaults.
    not_set: Vec<E::Column>,
}

impl<E> Shape for OfEntity<E>
where
    E: EntityTrait,
    E::ActiveModel: Send,
{
    type Row = E::ActiveModel;

    fn new(
        first: &E::ActiveModel,
        _: &[String],
        table: &[Column],
    ) -> Result<(OfEntity<E>, Vec<usize>), String> {
        let place = |column: &E::Column| {
            table.iter().position(|described| described.name == column.as_str())
        };
        let (set, not_set): (Vec<_>, Vec<_>) =
            E::Column::iter().partition(|column| !first.is_not_set(*column));
        // A model has a value for what the server makes by itself, and it is not asked for it.
        let generated = |column: &E::Column| {
            place(column).and_then(|at| table.get(at)).is_some_and(|column| column.generated)
        };
        let set: Vec<_> = set.into_iter().filter(|column| !generated(column)).collect();
        let not_set = not_set.into_iter().filter(|column| !generated(column)).collect();
        let names: Vec<String> = set.iter().map(|column| column.as_str().to_owned()).collect();
        if names.is_empty() {
            return Err("the first row sets no column".to_owned());
        }
        let places = named(&names, table)?;
        Ok((OfEntity { set, not_set }, places))
    }

    fn values(&self, mut row: E::ActiveModel, values: &mut Vec<Value>) -> Result<(), Odd> {
        for column in &self.not_set {
            if !row.is_not_set(*column) {
                let why = "it is set here, and the first row leaves it to its default";
                return Err(Odd { column: Some(column.as_str().to_owned()), why: why.to_owned() });
            }
        }
        for column in &self.set {
            match row.take(*column) {
                ActiveValue::Set(value) | ActiveValue::Unchanged(value) => values.push(value),
                ActiveValue::NotSet => {
                    let why = "it is not set here, and the first row sets it";
                    return Err(Odd {
                        column: Some(column.as_str().to_owned()),
                        why: why.to_owned(),
                    });
                }
            }
        }
        Ok(())
    }
}
