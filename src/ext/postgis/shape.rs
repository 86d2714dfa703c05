//! The shapes of geo-types, told piece by piece to whoever writes them down.

use std::fmt::Debug;

use geo_types::{
    Coord, Geometry, GeometryCollection, LineString, MultiLineString, MultiPoint, MultiPolygon,
    Point, Polygon,
};
use geozero::{GeomProcessor, error::Result};

use super::GeometryError;

/// What a column's type says of its rows' shape: one of geo-types' shapes with an `f64` a coordinate, or
/// `geo_types::Geometry` for any of them. Nothing else can be one.
pub trait Shape:
    Walk + Clone + Debug + PartialEq + Send + Sync + TryFrom<Geometry> + 'static
{
    /// As PostGIS spells it: `Point`, `MultiPolygon`; `Geometry` for any.
    const NAME: &'static str;

    /// As one of any.
    #[doc(hidden)]
    fn whole(self) -> Geometry;
}

macro_rules! shapes {
    ($($shape:ident),*) => {
        $(impl Shape for $shape {
            const NAME: &'static str = stringify!($shape);

            fn whole(self) -> Geometry {
                Geometry::$shape(self)
            }
        })*
    };
}

shapes!(GeometryCollection, LineString, MultiLineString, MultiPoint, MultiPolygon, Point, Polygon);

impl Shape for Geometry {
    const NAME: &'static str = "Geometry";

    fn whole(self) -> Geometry {
        self
    }
}

/// As a shape that is expected.
pub(super) fn expected<G: Shape>(geometry: Geometry) -> std::result::Result<G, GeometryError> {
    let found = name(&geometry);
    G::try_from(geometry).map_err(|_| GeometryError::Shape { expected: G::NAME, found })
}

fn name(geometry: &Geometry) -> &'static str {
    match geometry {
        Geometry::Point(_) => Point::NAME,
        Geometry::Line(_) | Geometry::LineString(_) => LineString::NAME,
        Geometry::Polygon(_) | Geometry::Rect(_) | Geometry::Triangle(_) => Polygon::NAME,
        Geometry::MultiPoint(_) => MultiPoint::NAME,
        Geometry::MultiLineString(_) => MultiLineString::NAME,
        Geometry::MultiPolygon(_) => MultiPolygon::NAME,
        Geometry::GeometryCollection(_) => GeometryCollection::NAME,
    }
}

/// geozero has this walk as well; its empty polygon has one ring without points, which PostGIS refuses
/// and GeoJSON does not know.
pub trait Walk {
    /// Tells `processor` the pieces; `index` is this one's among its siblings.
    #[doc(hidden)]
    fn walk<P: GeomProcessor>(&self, index: usize, processor: &mut P) -> Result<()>;
}

impl Walk for Geometry {
    fn walk<P: GeomProcessor>(&self, index: usize, processor: &mut P) -> Result<()> {
        match self {
            Geometry::Point(it) => it.walk(index, processor),
            Geometry::Line(it) => LineString::from(it).walk(index, processor),
            Geometry::LineString(it) => it.walk(index, processor),
            Geometry::Polygon(it) => it.walk(index, processor),
            Geometry::MultiPoint(it) => it.walk(index, processor),
            Geometry::MultiLineString(it) => it.walk(index, processor),
            Geometry::MultiPolygon(it) => it.walk(index, processor),
            Geometry::GeometryCollection(it) => it.walk(index, processor),
            Geometry::Rect(it) => it.to_polygon().walk(index, processor),
            Geometry::Triangle(it) => it.to_polygon().walk(index, processor),
        }
    }
}

impl Walk for Point {
    fn walk<P: GeomProcessor>(&self, index: usize, processor: &mut P) -> Result<()> {
        processor.point_begin(index)?;
        coordinate(&self.0, 0, processor)?;
        processor.point_end(index)
    }
}

impl Walk for LineString {
    fn walk<P: GeomProcessor>(&self, index: usize, processor: &mut P) -> Result<()> {
        line(self, true, index, processor)
    }
}

impl Walk for Polygon {
    fn walk<P: GeomProcessor>(&self, index: usize, processor: &mut P) -> Result<()> {
        polygon(self, true, index, processor)
    }
}

impl Walk for MultiPoint {
    fn walk<P: GeomProcessor>(&self, index: usize, processor: &mut P) -> Result<()> {
        processor.multipoint_begin(self.0.len(), index)?;
        for (index, point) in self.0.iter().enumerate() {
            coordinate(&point.0, index, processor)?;
        }
        processor.multipoint_end(index)
    }
}

impl Walk for MultiLineString {
    fn walk<P: GeomProcessor>(&self, index: usize, processor: &mut P) -> Result<()> {
        processor.multilinestring_begin(self.0.len(), index)?;
        for (index, each) in self.0.iter().enumerate() {
            line(each, false, index, processor)?;
        }
        processor.multilinestring_end(index)
    }
}

impl Walk for MultiPolygon {
    fn walk<P: GeomProcessor>(&self, index: usize, processor: &mut P) -> Result<()> {
        processor.multipolygon_begin(self.0.len(), index)?;
        for (index, each) in self.0.iter().enumerate() {
            polygon(each, false, index, processor)?;
        }
        processor.multipolygon_end(index)
    }
}

impl Walk for GeometryCollection {
    fn walk<P: GeomProcessor>(&self, index: usize, processor: &mut P) -> Result<()> {
        processor.geometrycollection_begin(self.0.len(), index)?;
        for (index, each) in self.0.iter().enumerate() {
            each.walk(index, processor)?;
        }
        processor.geometrycollection_end(index)
    }
}

fn polygon<P: GeomProcessor>(
    polygon: &Polygon,
    tagged: bool,
    index: usize,
    processor: &mut P,
) -> Result<()> {
    let empty = polygon.exterior().0.is_empty() && polygon.interiors().is_empty();
    let exterior = (!empty).then_some(polygon.exterior());
    processor.polygon_begin(tagged, exterior.iter().len() + polygon.interiors().len(), index)?;
    for (index, ring) in exterior.into_iter().chain(polygon.interiors()).enumerate() {
        line(ring, false, index, processor)?;
    }
    processor.polygon_end(tagged, index)
}

fn line<P: GeomProcessor>(
    line: &LineString,
    tagged: bool,
    index: usize,
    processor: &mut P,
) -> Result<()> {
    processor.linestring_begin(tagged, line.0.len(), index)?;
    for (index, each) in line.0.iter().enumerate() {
        coordinate(each, index, processor)?;
    }
    processor.linestring_end(tagged, index)
}

fn coordinate<P: GeomProcessor>(at: &Coord, index: usize, processor: &mut P) -> Result<()> {
    match processor.multi_dim() {
        true => processor.coordinate(at.x, at.y, None, None, None, None, index),
        false => processor.xy(at.x, at.y, index),
    }
}
