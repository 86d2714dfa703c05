//! What is no geometry, or not one that fits.

use sea_orm::DbErr;

use super::Error;

/// Why something is not the geometry that it is to be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// A coordinate is infinite or no number; of a point that is no number, PostGIS makes an empty one.
    #[error("a coordinate ({x}, {y}) is not finite")]
    NotFinite {
        /// As it was given.
        x: f64,
        /// As it was given.
        y: f64,
    },
    /// A coordinate is not on earth; PostGIS would move it to where it thinks it was meant to be.
    #[error(
        "({x}, {y}) is not on earth: x is the longitude (-180 to 180) and y the latitude (-90 to 90){}",
        if .x.abs() <= 90.0 && .y.abs() <= 180.0 { "; swap them" } else { "" }
    )]
    NotOnEarth {
        /// As it was given.
        x: f64,
        /// As it was given.
        y: f64,
    },
    /// The SRID is not the column's.
    #[error("its SRID is {found}, expected {expected}; convert it with ST_Transform")]
    Srid {
        /// That of the Rust type.
        expected: i32,
        /// That of the value; 0 for one that has none.
        found: i32,
    },
    /// The shape is not the column's.
    #[error("it is a {found}, expected a {expected}")]
    Shape {
        /// That of the Rust type.
        expected: &'static str,
        /// That of the value.
        found: &'static str,
    },
    /// geo-types has nothing that could hold it.
    #[error("geo-types cannot hold {what}: {instead}")]
    Unsupported {
        /// What it is.
        what: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// The bytes are no EWKB.
    #[error("it is no EWKB: {0}")]
    Malformed(String),
}

impl From<GeometryError> for DbErr {
    fn from(error: GeometryError) -> DbErr {
        Error::from(error).into()
    }
}
