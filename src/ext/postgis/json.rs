//! GeoJSON, in which a place is a longitude and a latitude: so for SRID 4326 alone.

use geo_types::{Coord, Geometry as Any, LineString, Polygon};
use geozero::ToJson as _;
use serde::{Serialize, Serializer, ser::Error as _};

use super::{
    error::GeometryError,
    field::{Geography, Geometry, finite},
    shape::Shape,
};

type Position = [f64; 2];

#[derive(Serialize)]
#[serde(tag = "type")]
enum GeoJson {
    Point { coordinates: Position },
    LineString { coordinates: Vec<Position> },
    Polygon { coordinates: Vec<Vec<Position>> },
    MultiPoint { coordinates: Vec<Position> },
    MultiLineString { coordinates: Vec<Vec<Position>> },
    MultiPolygon { coordinates: Vec<Vec<Vec<Position>>> },
    GeometryCollection { geometries: Vec<GeoJson> },
}

macro_rules! geojson {
    ($($name:ident),*) => {
        $(impl<G: Shape> $name<4326, G> {
            /// A GeoJSON geometry: `{"type": "Point", "coordinates": [13.4,52.5]}`, with all decimals.
            /// Another SRID has no GeoJSON: [`st_transform`](super::SpatialExpr::st_transform) first.
            ///
            /// # Errors
            /// [`GeometryError::NotFinite`]: a row may hold what JSON cannot.
            pub fn geojson(&self) -> Result<String, GeometryError> {
                finite(&**self)?;
                self.to_json().map_err(|error| GeometryError::Malformed(error.to_string()))
            }
        }

        /// As GeoJSON.
        impl<G: Shape> Serialize for $name<4326, G> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                finite(&**self).map_err(S::Error::custom)?;
                GeoJson::from(&(**self).clone().whole()).serialize(serializer)
            }
        })*
    };
}

geojson!(Geometry, Geography);

impl From<&Any> for GeoJson {
    fn from(geometry: &Any) -> GeoJson {
        match geometry {
            Any::Point(it) => GeoJson::Point { coordinates: position(&it.0) },
            Any::Line(it) => GeoJson::from(&Any::from(LineString::from(it))),
            Any::LineString(it) => GeoJson::LineString { coordinates: positions(it) },
            Any::Polygon(it) => GeoJson::Polygon { coordinates: rings(it) },
            Any::MultiPoint(it) => {
                GeoJson::MultiPoint { coordinates: it.iter().map(|it| position(&it.0)).collect() }
            }
            Any::MultiLineString(it) => {
                GeoJson::MultiLineString { coordinates: it.iter().map(positions).collect() }
            }
            Any::MultiPolygon(it) => {
                GeoJson::MultiPolygon { coordinates: it.iter().map(rings).collect() }
            }
            Any::GeometryCollection(it) => {
                GeoJson::GeometryCollection { geometries: it.iter().map(GeoJson::from).collect() }
            }
            Any::Rect(it) => GeoJson::Polygon { coordinates: rings(&it.to_polygon()) },
            Any::Triangle(it) => GeoJson::Polygon { coordinates: rings(&it.to_polygon()) },
        }
    }
}

fn position(at: &Coord) -> Position {
    [at.x, at.y]
}

fn positions(line: &LineString) -> Vec<Position> {
    line.0.iter().map(position).collect()
}

fn rings(polygon: &Polygon) -> Vec<Vec<Position>> {
    let all = std::iter::once(polygon.exterior()).chain(polygon.interiors());
    all.filter(|ring| !ring.0.is_empty()).map(positions).collect()
}
