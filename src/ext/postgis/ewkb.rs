//! EWKB, the form in which PostGIS gives and takes geometries: read and written by geozero, which leaves
//! out what it has no place for; here that is an error.

use geozero::{
    CoordDimensions, GeomProcessor,
    error::{GeozeroError, Result},
    geo_types::GeoWriter,
    wkb::{WkbDialect, WkbWriter, process_ewkb_geom},
};

use super::{
    GeometryError,
    shape::{self, Shape},
};

const FLAT: &str =
    "ST_Force2D(column) has the part that it can, a field of type String or Vec<u8> the whole";
const STRAIGHT: &str = "ST_CurveToLine(column) has straight lines, ST_Dump the parts of a surface";
const EMPTY: &str = "leave such rows out by ST_IsEmpty, or store NULL";

/// Of what geo-types has no empty one of: a coordinate that is no number would be another thing.
pub(super) fn empty_point() -> GeometryError {
    GeometryError::Unsupported { what: "an empty point", instead: EMPTY }
}

pub(super) fn written<G: Shape>(shape: &G, srid: i32) -> Vec<u8> {
    // A point's size; geozero writes to memory, which does not fail.
    let mut bytes = Vec::with_capacity(25);
    let flat = CoordDimensions::xy();
    let mut writer =
        WkbWriter::with_opts(&mut bytes, WkbDialect::Ewkb, flat, Some(srid), Vec::new());
    match shape.walk(0, &mut writer) {
        Ok(()) => bytes,
        // What is no EWKB is refused by the server, if memory should fail all the same.
        Err(_) => Vec::new(),
    }
}

pub(super) fn read<G: Shape>(bytes: &[u8], srid: i32) -> std::result::Result<G, GeometryError> {
    let mut reader = Reader { geometry: GeoWriter::new(), expected: srid, refused: None };
    let mut rest = bytes;
    let read = process_ewkb_geom(&mut rest, &mut reader);
    if let Some(refused) = reader.refused {
        return Err(refused);
    }
    read.map_err(|error| GeometryError::Malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(GeometryError::Malformed(format!("{} bytes too many", rest.len())));
    }
    let geometry = reader.geometry.take_geometry();
    let missing = || GeometryError::Malformed("there is no geometry in it".to_owned());
    shape::expected(geometry.ok_or_else(missing)?)
}

/// geozero's way to geo-types, closed to what would not arrive.
struct Reader {
    geometry: GeoWriter,
    expected: i32,
    refused: Option<GeometryError>,
}

impl Reader {
    fn refuse(&mut self, error: GeometryError) -> Result<()> {
        self.refused = Some(error);
        Err(GeozeroError::GeometryFormat)
    }

    fn unsupported(&mut self, what: &'static str, instead: &'static str) -> Result<()> {
        self.refuse(GeometryError::Unsupported { what, instead })
    }
}

macro_rules! pass_on {
    ($($method:ident($($argument:ident: $type:ty),*)),* $(,)?) => {
        $(fn $method(&mut self, $($argument: $type),*) -> Result<()> {
            self.geometry.$method($($argument),*)
        })*
    };
}

macro_rules! refuse {
    ($($method:ident($($type:ty),*) $what:literal),* $(,)?) => {
        $(fn $method(&mut self, $(_: $type),*) -> Result<()> {
            self.unsupported($what, STRAIGHT)
        })*
    };
}

impl GeomProcessor for Reader {
    // Asked for what geo-types has no place for, so that it is seen.
    fn dimensions(&self) -> CoordDimensions {
        CoordDimensions::xyzm()
    }

    fn srid(&mut self, srid: Option<i32>) -> Result<()> {
        let (expected, found) = (self.expected, srid.unwrap_or(0));
        if found == expected {
            return Ok(());
        }
        self.refuse(GeometryError::Srid { expected, found })
    }

    fn coordinate(
        &mut self,
        x: f64,
        y: f64,
        z: Option<f64>,
        m: Option<f64>,
        _t: Option<f64>,
        _tm: Option<u64>,
        index: usize,
    ) -> Result<()> {
        match (z, m) {
            // In a multipoint, an empty point is one of these.
            (None, None) if x.is_nan() && y.is_nan() => self.empty_point(index),
            (None, None) => self.geometry.xy(x, y, index),
            (Some(_), None) => self.unsupported("a height (Z)", FLAT),
            (None, Some(_)) => self.unsupported("a measure (M)", FLAT),
            (Some(_), Some(_)) => self.unsupported("heights and measures (ZM)", FLAT),
        }
    }

    fn empty_point(&mut self, _index: usize) -> Result<()> {
        self.refuse(empty_point())
    }

    pass_on! {
        point_begin(index: usize),
        point_end(index: usize),
        multipoint_begin(size: usize, index: usize),
        multipoint_end(index: usize),
        linestring_begin(tagged: bool, size: usize, index: usize),
        linestring_end(tagged: bool, index: usize),
        multilinestring_begin(size: usize, index: usize),
        multilinestring_end(index: usize),
        polygon_begin(tagged: bool, size: usize, index: usize),
        polygon_end(tagged: bool, index: usize),
        multipolygon_begin(size: usize, index: usize),
        multipolygon_end(index: usize),
        geometrycollection_begin(size: usize, index: usize),
        geometrycollection_end(index: usize),
    }

    refuse! {
        circularstring_begin(usize, usize) "a circular string",
        compoundcurve_begin(usize, usize) "a compound curve",
        curvepolygon_begin(usize, usize) "a curve polygon",
        multicurve_begin(usize, usize) "a multi curve",
        multisurface_begin(usize, usize) "a multi surface",
        triangle_begin(bool, usize, usize) "a triangle of PostGIS's",
        polyhedralsurface_begin(usize, usize) "a polyhedral surface",
        tin_begin(usize, usize) "a TIN",
    }
}
