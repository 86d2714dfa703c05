//! GeoJSON, in which a place is a longitude and a latitude: so for SRID 4326 alone. One that names another system in
//! `crs`, as GeoJSON did before RFC 7946 and some programs still write, is refused.

use std::fmt;

use geo_types::{
    Coord, Geometry as Any, GeometryCollection, LineString, MultiLineString, MultiPoint,
    MultiPolygon, Point, Polygon,
};
use geozero::ToJson as _;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
    ser::Error as _,
};

use super::{
    GeometryError,
    ewkb::empty_point,
    field::{Geography, Geometry, finite},
    shape::{self, Shape},
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
        }

        /// From GeoJSON. A `crs` that is not that of SRID 4326 is an error, and so is an empty point.
        impl<'de, G: Shape> Deserialize<'de> for $name<4326, G> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let any = Any::try_from(Read::deserialize(deserializer)?);
                let shape = shape::expected::<G>(any.map_err(D::Error::custom)?);
                shape.and_then($name::new).map_err(D::Error::custom)
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

/// What is read: which shape it is may come last.
#[derive(Deserialize)]
struct Read {
    r#type: String,
    coordinates: Option<Nested>,
    geometries: Option<Vec<Read>>,
    crs: Option<Crs>,
}

/// A system of coordinates as it was named before RFC 7946, which has one only.
#[derive(Deserialize)]
struct Crs {
    #[serde(default)]
    properties: Properties,
}

#[derive(Default, Deserialize)]
struct Properties {
    name: Option<String>,
}

impl Crs {
    /// Refuses coordinates of another system, which would be taken for degrees.
    fn check(self) -> Result<(), String> {
        let name = self.properties.name.unwrap_or_else(|| "not named".to_owned());
        // `EPSG:4326`, `urn:ogc:def:crs:EPSG::4326`, `urn:ogc:def:crs:OGC:1.3:CRS84`
        match name.rsplit([':', '/']).next() {
            Some("4326" | "CRS84") => Ok(()),
            _ => {
                Err(format!("its crs is {name}, expected EPSG:4326; convert it with ST_Transform"))
            }
        }
    }
}

enum Nested {
    Number(f64),
    List(Vec<Nested>),
}

impl TryFrom<Read> for Any {
    type Error = String;

    fn try_from(read: Read) -> Result<Any, String> {
        let Read { r#type, coordinates, geometries, crs } = read;
        crs.map_or(Ok(()), Crs::check)?;
        if r#type == GeometryCollection::NAME {
            let geometries = geometries.ok_or("a GeometryCollection without geometries")?;
            let all: Result<Vec<Any>, String> = geometries.into_iter().map(Any::try_from).collect();
            return Ok(Any::GeometryCollection(GeometryCollection(all?)));
        }
        let it = coordinates.ok_or_else(|| format!("a {} without coordinates", r#type))?;
        Ok(match r#type.as_str() {
            Point::NAME => Point(it.coord()?).into(),
            LineString::NAME => it.line()?.into(),
            Polygon::NAME => it.polygon()?.into(),
            MultiPoint::NAME => MultiPoint(it.list(|it| it.coord().map(Point))?).into(),
            MultiLineString::NAME => MultiLineString(it.list(Nested::line)?).into(),
            MultiPolygon::NAME => MultiPolygon(it.list(Nested::polygon)?).into(),
            _ => return Err(format!("`{}` is no type of a GeoJSON geometry", r#type)),
        })
    }
}

impl Nested {
    fn list<T>(self, each: fn(Nested) -> Result<T, String>) -> Result<Vec<T>, String> {
        match self {
            Nested::List(list) => list.into_iter().map(each).collect(),
            Nested::Number(number) => Err(format!("{number} where a list was expected")),
        }
    }

    fn coord(self) -> Result<Coord, String> {
        let numbers = self.list(|it| match it {
            Nested::Number(number) => Ok(number),
            Nested::List(_) => Err("a list where a number was expected".to_owned()),
        })?;
        match numbers.as_slice() {
            [x, y] => Ok(Coord { x: *x, y: *y }),
            // As PostGIS writes one.
            [] => Err(empty_point().to_string()),
            // A height would be lost.
            _ => Err(format!("a position of {} numbers, not of two", numbers.len())),
        }
    }

    fn line(self) -> Result<LineString, String> {
        self.list(Nested::coord).map(LineString)
    }

    fn polygon(self) -> Result<Polygon, String> {
        let mut rings = self.list(Nested::line)?.into_iter();
        let exterior = rings.next().unwrap_or(LineString(Vec::new()));
        Ok(Polygon::new(exterior, rings.collect()))
    }
}

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Nested, D::Error> {
        deserializer.deserialize_any(Nesting)
    }
}

struct Nesting;

impl<'de> Visitor<'de> for Nesting {
    type Value = Nested;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("coordinates")
    }

    fn visit_f64<E>(self, number: f64) -> Result<Nested, E> {
        Ok(Nested::Number(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Nested, E> {
        Ok(Nested::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Nested, E> {
        Ok(Nested::Number(number as f64))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Nested, A::Error> {
        let mut list = Vec::new();
        while let Some(each) = seq.next_element()? {
            list.push(each);
        }
        Ok(Nested::List(list))
    }

    /// What serde_json makes of a number where anything in the program enables its `arbitrary_precision`.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Nested, A::Error> {
        let number: Option<(String, String)> = map.next_entry()?;
        let number = number.and_then(|(_, digits)| digits.parse().ok());
        number.map(Nested::Number).ok_or_else(|| A::Error::custom("an object among coordinates"))
    }
}
