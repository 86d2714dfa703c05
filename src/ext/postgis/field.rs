//! The fields of entities.

use std::ops::Deref;

use geozero::{GeomProcessor, GeozeroGeometry};
use sea_orm::{
    ColIdx, DbErr, IntoSimpleExpr, QueryResult, RuntimeErr, TryGetError, TryGetable, Value,
    sea_query::{
        ArrayType, ColumnType, Expr, ExprTrait as _, Nullable, SimpleExpr, ValueType, ValueTypeErr,
    },
};
use sqlx::{Row as _, TypeInfo as _, ValueRef as _, postgres::PgValueFormat};

use super::{GeometryError, ewkb, shape::Shape};

macro_rules! field {
    ($(#[$doc:meta])* $name:ident, $sql:literal, $check:ident, $(#[$new:meta])*) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name<const SRID: i32, G: Shape = geo_types::Geometry>(G);

        impl<const SRID: i32, G: Shape> $name<SRID, G> {
            $(#[$new])*
            pub fn new(shape: impl Into<G>) -> Result<Self, GeometryError> {
                let shape = shape.into();
                $check(&shape)?;
                Ok($name(shape))
            }

            /// The shape by itself.
            #[must_use]
            pub fn into_inner(self) -> G {
                self.0
            }
        }

        impl<const SRID: i32, G: Shape> Deref for $name<SRID, G> {
            type Target = G;

            fn deref(&self) -> &G {
                &self.0
            }
        }

        impl<const SRID: i32, G: Shape> From<$name<SRID, G>> for Value {
            /// EWKB, which PostGIS takes for a geometry or a geography by itself.
            fn from(it: $name<SRID, G>) -> Value {
                Value::Bytes(Some(ewkb::written(&it.0, SRID)))
            }
        }

        impl<const SRID: i32, G: Shape> Nullable for $name<SRID, G> {
            fn null() -> Value {
                Value::Bytes(None)
            }
        }

        impl<const SRID: i32, G: Shape> ValueType for $name<SRID, G> {
            fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
                match value {
                    Value::Bytes(Some(bytes)) => {
                        ewkb::read(&bytes, SRID).map($name).map_err(|_| ValueTypeErr)
                    }
                    _ => Err(ValueTypeErr),
                }
            }

            fn type_name() -> String {
                stringify!($name).to_owned()
            }

            fn array_type() -> ArrayType {
                ArrayType::Bytes
            }

            fn column_type() -> ColumnType {
                ColumnType::custom(format!("{}({},{SRID})", $sql, G::NAME))
            }
        }

        impl<const SRID: i32, G: Shape> TryGetable for $name<SRID, G> {
            fn try_get_by<I: ColIdx>(row: &QueryResult, column: I) -> Result<Self, TryGetError> {
                let bytes = bytes(row, column, $sql)?;
                let shape = ewkb::read(bytes, SRID);
                Ok($name(shape.map_err(|error| {
                    DbErr::Type(format!("column {column:?} as {}<{SRID}, {}>: {error}", stringify!($name), G::NAME))
                })?))
            }
        }

        impl<const SRID: i32, G: Shape> IntoSimpleExpr for $name<SRID, G> {
            /// A bind, which the server is told to take for what it is.
            fn into_simple_expr(self) -> SimpleExpr {
                Expr::val(self).cast_as($sql)
            }
        }

        /// For all that geozero writes: GeoJSON, WKT, SVG.
        impl<const SRID: i32, G: Shape> GeozeroGeometry for $name<SRID, G> {
            fn process_geom<P: GeomProcessor>(&self, processor: &mut P) -> geozero::error::Result<()> {
                self.0.walk(0, processor)
            }

            fn srid(&self) -> Option<i32> {
                Some(SRID)
            }
        }
    };
}

field! {
    /// A `geometry(G,SRID)` column: places on a plane, in the units of the SRID; for 4326 these are
    /// degrees, and so are its distances.
    ///
    /// The SRID is in the type, so that one that is not the column's does not compile; 0 is none. The shape
    /// is too: `Geometry<3857, Polygon>` holds polygons, `Geometry<3857>` anything. As an entity's field it
    /// needs no attribute: SeaORM's schema makes `geometry(Polygon,3857)` of it. NULL is `Option`. A read
    /// value dereferences to the shape.
    ///
    /// It travels as EWKB. What geo-types cannot hold (Z, M, curves, surfaces, an empty point) and another
    /// SRID or shape are errors of the read, which name the column. A `Line` comes back as `LineString`,
    /// a `Rect` or `Triangle` as `Polygon`.
    ///
    /// `Column::Place.eq(geometry)` is ambiguous to the server (42725): [`st_equals`] compares, by the
    /// index; where `=` itself is meant, `#[sea_orm(save_as = "geometry")]` at the field says what a bind is.
    ///
    /// [`st_equals`]: super::SpatialExpr::st_equals
    Geometry, "geometry", finite,
    /// From one of geo-types' shapes, or what makes one: `(x, y)` a `Point`, a `Rect` a `Polygon`.
    ///
    /// # Errors
    /// [`GeometryError::NotFinite`].
}

field! {
    /// A `geography(G,SRID)` column: places on earth, as longitude (x) and latitude (y) in degrees.
    /// Distances and areas are in metres, along the ellipsoid.
    ///
    /// All else is as with [`Geometry`](super::Geometry).
    Geography, "geography", on_earth,
    /// From one of geo-types' shapes, or what makes one: `(longitude, latitude)` a `Point`.
    ///
    /// # Errors
    /// [`GeometryError::NotOnEarth`] for a coordinate outside of ±180 and ±90, which PostGIS would move to
    /// another place without an error, as where latitude and longitude are the wrong way round.
    /// [`GeometryError::NotFinite`].
}

/// The EWKB in a row.
fn bytes<'r, I: ColIdx>(
    row: &'r QueryResult,
    column: I,
    expected: &str,
) -> Result<&'r [u8], TryGetError> {
    let failed = |what: String| DbErr::Type(format!("column {column:?}: {what}"));
    let row =
        row.try_as_pg_row().ok_or_else(|| failed("the row is not PostgreSQL's".to_owned()))?;
    let value = row
        .try_get_raw(column.as_sqlx_postgres_index())
        .map_err(|error| DbErr::Query(RuntimeErr::SqlxError(error.into())))?;
    if value.is_null() {
        return Err(TryGetError::Null(format!("{column:?}")));
    }
    let info = value.type_info();
    // `schema.name` where the search path does not show it.
    let found = info.name().rsplit('.').next().unwrap_or_default().to_lowercase();
    if found != expected && found != "bytea" {
        let what = format!("it is {found}, expected {expected}; check the field's `select_as`");
        return Err(failed(what).into());
    }
    if value.format() != PgValueFormat::Binary {
        return Err(failed("it came as text, not in the binary format".to_owned()).into());
    }
    value.as_bytes().map_err(|error| failed(error.to_string()).into())
}

pub(super) fn finite<G: Shape>(shape: &G) -> Result<(), GeometryError> {
    match first(shape, |x, y| !(x.is_finite() && y.is_finite())) {
        Some((x, y)) => Err(GeometryError::NotFinite { x, y }),
        None => Ok(()),
    }
}

fn on_earth<G: Shape>(shape: &G) -> Result<(), GeometryError> {
    finite(shape)?;
    match first(shape, |x, y| x.abs() > 180.0 || y.abs() > 90.0) {
        Some((x, y)) => Err(GeometryError::NotOnEarth { x, y }),
        None => Ok(()),
    }
}

/// The first coordinate that `is_bad`.
fn first<G: Shape>(shape: &G, is_bad: fn(f64, f64) -> bool) -> Option<(f64, f64)> {
    struct Look {
        is_bad: fn(f64, f64) -> bool,
        found: Option<(f64, f64)>,
    }
    impl GeomProcessor for Look {
        fn xy(&mut self, x: f64, y: f64, _: usize) -> geozero::error::Result<()> {
            if self.found.is_none() && (self.is_bad)(x, y) {
                self.found = Some((x, y));
            }
            Ok(())
        }
    }
    let mut look = Look { is_bad, found: None };
    // It only looks, and so does not fail.
    let _ = shape.walk(0, &mut look);
    look.found
}
