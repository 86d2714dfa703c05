//! Geometries and geographies through entities, and the index behind what is asked of them.

use geo_types::{
    Coord, Geometry as Any, GeometryCollection, LineString, MultiLineString, MultiPoint,
    MultiPolygon, Point, Polygon, Rect, coord, line_string, point, polygon,
};
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, ExprTrait as _,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, Schema, Set,
    sea_query::{Expr, Index, IndexType, SimpleExpr},
};
use wharf::{
    Error, Pg,
    ext::postgis::{Geography, Geometry, GeometryError, SpatialExpr},
    testing::TestDatabase,
};

use super::support::{Image, database};

mod place {
    use sea_orm::entity::prelude::*;
    use wharf::ext::postgis::{Geography, Geometry};

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, serde::Deserialize, serde::Serialize)]
    #[sea_orm(table_name = "place")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub spot: Geometry<4326, geo_types::Point>,
        pub at: Geography<4326, geo_types::Point>,
        pub outline: Option<Geometry<4326>>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// The same table to an entity that says what its binds are.
mod cast {
    use sea_orm::entity::prelude::*;
    use wharf::ext::postgis::Geometry;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "place")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        #[sea_orm(save_as = "geometry")]
        pub outline: Option<Geometry<4326>>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// A table made from the entity, with indexes.
async fn places() -> Option<TestDatabase> {
    let database = database(Image::Postgis).await?;
    let table = Schema::new(DbBackend::Postgres).create_table_from_entity(place::Entity);
    database.execute(&table).await.unwrap();
    for column in ["spot", "at", "outline"] {
        let index = Index::create()
            .name(format!("place_{column}"))
            .table(place::Entity)
            .col(column)
            .index_type(IndexType::Custom("gist".into()))
            .to_owned();
        database.execute(&index).await.unwrap();
    }
    Some(database)
}

fn place(x: f64, y: f64, outline: Option<Any>) -> place::ActiveModel {
    place::ActiveModel {
        spot: Set(Geometry::new((x, y)).unwrap()),
        at: Set(Geography::new((x, y)).unwrap()),
        outline: Set(outline.map(|it| Geometry::new(it).unwrap())),
        ..Default::default()
    }
}

/// A place at every other degree of the earth.
async fn grid() -> Option<TestDatabase> {
    let database = places().await?;
    let grid = "INSERT INTO place (spot, at, outline)
                SELECT ST_SetSRID(ST_MakePoint(x, y), 4326), ST_MakePoint(x, y)::geography,
                       ST_MakeEnvelope(x, y, x + 1, y + 1, 4326)
                  FROM generate_series(-178, 178, 2) x, generate_series(-88, 88, 2) y";
    database.execute_unprepared(grid).await.unwrap();
    database.execute_unprepared("ANALYZE place").await.unwrap();
    Some(database)
}

/// How the server goes about a query, with its binds as they are sent.
async fn plan(database: &Pg, select: sea_orm::Select<place::Entity>) -> String {
    let mut statement = select.build(DbBackend::Postgres);
    statement.sql.insert_str(0, "EXPLAIN ");
    let lines = database.query_all_raw(statement).await.unwrap();
    let lines = lines.iter().map(|line| line.try_get_by_index::<String>(0).unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

async fn count(database: &Pg, filter: SimpleExpr) -> usize {
    place::Entity::find().filter(filter).all(database).await.unwrap().len()
}

fn here() -> Geometry<4326, Point> {
    Geometry::new((13.0, 52.0)).unwrap()
}

#[tokio::test]
async fn the_entity_says_what_its_columns_are() {
    let Some(database) = places().await else { return };
    let types = "SELECT string_agg(format_type(atttypid, atttypmod), '; ' ORDER BY attnum)
                   FROM pg_attribute WHERE attrelid = 'place'::regclass AND attnum > 1";
    let types = sea_orm::Statement::from_string(DbBackend::Postgres, types);
    let types: String =
        database.query_one_raw(types).await.unwrap().unwrap().try_get_by_index(0).unwrap();
    assert_eq!(types, "geometry(Point,4326); geography(Point,4326); geometry(Geometry,4326)");
}

#[tokio::test]
async fn what_is_written_through_an_entity_is_what_postgis_sees_and_what_is_read() {
    let Some(database) = places().await else { return };
    let outline: Any = polygon![(x: 0., y: 0.), (x: 2., y: 0.), (x: 1., y: 1.)].into();
    let written = place(13.4, 52.5, Some(outline.clone())).insert(&*database).await.unwrap();
    let read = place::Entity::find_by_id(written.id).one(&*database).await.unwrap().unwrap();
    assert_eq!(written, read);
    assert_eq!(read.spot.x(), 13.4);
    assert_eq!(**read.outline.as_ref().unwrap(), outline);

    let seen =
        "SELECT ST_AsEWKT(spot) || ' ' || ST_AsEWKT(at) || ' ' || ST_AsEWKT(outline) FROM place";
    let seen = sea_orm::Statement::from_string(DbBackend::Postgres, seen);
    let seen: String =
        database.query_one_raw(seen).await.unwrap().unwrap().try_get_by_index(0).unwrap();
    assert_eq!(
        seen,
        "SRID=4326;POINT(13.4 52.5) SRID=4326;POINT(13.4 52.5) SRID=4326;POLYGON((0 0,2 0,1 1,0 0))"
    );

    let mut change: place::ActiveModel = read.into();
    change.outline = Set(None);
    assert_eq!(change.update(&*database).await.unwrap().outline, None);
    let rows = [place(1.0, 2.0, None), place(3.0, 4.0, Some(outline))];
    place::Entity::insert_many(rows).exec(&*database).await.unwrap();
    let outlines: Vec<Option<Geometry<4326>>> = place::Entity::find()
        .select_only()
        .column(place::Column::Outline)
        .order_by_asc(place::Column::Id)
        .into_tuple()
        .all(&*database)
        .await
        .unwrap();
    assert_eq!(outlines.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true]);
}

fn coordinate() -> impl Strategy<Value = Coord> {
    // Any finite number that a plane has, small and odd ones included.
    (-1e9..1e9f64, prop_oneof![Just(0.0), Just(-0.0), Just(f64::MIN_POSITIVE), -1e-9..1e9f64])
        .prop_map(|(x, y)| coord! { x: x, y: y })
}

fn line() -> impl Strategy<Value = LineString> {
    prop_oneof![Just(Vec::new()), vec(coordinate(), 2..8)].prop_map(LineString)
}

fn ring() -> impl Strategy<Value = LineString> {
    vec(coordinate(), 3..8)
        .prop_map(|ring| Polygon::new(LineString(ring), vec![]).exterior().clone())
}

fn area() -> impl Strategy<Value = Polygon> {
    let empty = Just(Polygon::new(LineString(vec![]), vec![]));
    let full = (ring(), vec(ring(), 0..3)).prop_map(|(outer, inner)| Polygon::new(outer, inner));
    prop_oneof![1 => empty, 4 => full]
}

fn any() -> impl Strategy<Value = Any> {
    let points = || vec(coordinate().prop_map(Point), 0..6);
    let simple = prop_oneof![
        coordinate().prop_map(|it| Any::Point(Point(it))),
        line().prop_map(Any::LineString),
        area().prop_map(Any::Polygon),
        points().prop_map(|it| Any::MultiPoint(MultiPoint(it))),
        vec(line(), 0..4).prop_map(|it| Any::MultiLineString(MultiLineString(it))),
        vec(area(), 0..4).prop_map(|it| Any::MultiPolygon(MultiPolygon(it))),
    ];
    simple.prop_recursive(3, 24, 4, |inner| {
        vec(inner, 0..4).prop_map(|it| Any::GeometryCollection(GeometryCollection(it)))
    })
}

#[tokio::test]
async fn any_geometry_comes_back_as_it_was_written() {
    let Some(database) = places().await else { return };
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    for _ in 0..8 {
        let shapes = vec(any(), 100).new_tree(&mut runner).unwrap().current();
        let rows = shapes.iter().map(|shape| place(1.0, 1.0, Some(shape.clone())));
        place::Entity::delete_many().exec(&*database).await.unwrap();
        place::Entity::insert_many(rows).exec(&*database).await.unwrap();
        let read =
            place::Entity::find().order_by_asc(place::Column::Id).all(&*database).await.unwrap();
        let read: Vec<Any> = read.into_iter().map(|it| it.outline.unwrap().into_inner()).collect();
        assert_eq!(read, shapes);
    }
}

#[tokio::test]
async fn what_geo_types_cannot_hold_is_an_error_that_names_the_column() {
    let Some(database) = places().await else { return };
    let read = async |column: &str, sql: &str| {
        let sql = format!("SELECT {sql} AS {column}");
        let sql = sea_orm::Statement::from_string(DbBackend::Postgres, sql);
        let row = database.query_one_raw(sql).await.unwrap().unwrap();
        row.try_get::<Geometry<4326>>("", column).unwrap_err().to_string()
    };
    for (wkt, what) in [
        ("POINT(1 2 3)", "a height (Z)"),
        ("POINT M(1 2 3)", "a measure (M)"),
        ("LINESTRING(1 2 3 4, 5 6 7 8)", "heights and measures (ZM)"),
        ("POINT EMPTY", "an empty point"),
        ("MULTIPOINT(1 1, EMPTY)", "an empty point"),
        ("CIRCULARSTRING(0 0, 1 1, 2 0)", "a circular string"),
        ("GEOMETRYCOLLECTION(CIRCULARSTRING EMPTY, POINT(1 1))", "a circular string"),
        ("CURVEPOLYGON(CIRCULARSTRING(0 0, 1 1, 2 0, 1 -1, 0 0))", "a curve polygon"),
        ("TIN EMPTY", "a TIN"),
    ] {
        let error = read("mark", &format!("'SRID=4326;{wkt}'::geometry")).await;
        let named = error.contains("column \"mark\"") && error.contains("Geometry<4326, Geometry>");
        assert!(named && error.contains(what), "{wkt}: {error}");
    }
    let error = read("mark", "'SRID=3857;POINT(1 2)'::geometry").await;
    assert!(error.contains("its SRID is 3857, expected 4326"), "{error}");
    let error = read("mark", "'POINT(1 2)'::geometry").await;
    assert!(error.contains("its SRID is 0, expected 4326"), "{error}");
    let error = read("mark", "'SRID=4326;POINT(1 2)'::geometry::text").await;
    assert!(error.contains("it is text, expected geometry"), "{error}");

    let line = "SELECT 'SRID=4326;LINESTRING(1 2, 3 4)'::geometry AS mark";
    let line = sea_orm::Statement::from_string(DbBackend::Postgres, line);
    let row = database.query_one_raw(line).await.unwrap().unwrap();
    let error = row.try_get::<Geometry<4326, Point>>("", "mark").unwrap_err().to_string();
    assert!(error.contains("it is a LineString, expected a Point"), "{error}");
    let bytes = "SELECT '\\x0101'::bytea AS mark";
    let bytes = sea_orm::Statement::from_string(DbBackend::Postgres, bytes);
    let row = database.query_one_raw(bytes).await.unwrap().unwrap();
    let error = row.try_get::<Geometry<4326>>("", "mark").unwrap_err().to_string();
    assert!(error.contains("it is no EWKB"), "{error}");
}

#[tokio::test]
async fn a_coordinate_that_postgis_would_change_is_refused_before_it_sees_it() {
    let error = Geography::<4326, Point>::new((52.5, 113.4)).unwrap_err();
    assert_eq!(error, GeometryError::NotOnEarth { x: 52.5, y: 113.4 });
    assert!(error.to_string().ends_with("; swap them"), "{error}");
    let line = line_string![(x: 0., y: 0.), (x: 181., y: 0.)];
    assert!(Geography::<4326>::new(line.clone()).is_err());
    assert!(Geometry::<3857>::new(line).is_ok());
    let point = point!(x: f64::NAN, y: 1.0);
    assert!(matches!(
        Geometry::<0, Point>::new(point).unwrap_err(),
        GeometryError::NotFinite { .. }
    ));
    let error = Error::from(DbErr::from(Geography::<4326, Point>::new((0.0, 91.0)).unwrap_err()));
    assert!(matches!(error, Error::Geometry(GeometryError::NotOnEarth { .. })), "{error:?}");
}

#[tokio::test]
async fn each_filter_finds_what_it_is_for_and_uses_the_index() {
    let Some(database) = grid().await else { return };
    use place::Column::{At, Outline, Spot};
    let berlin = || Geography::<4326, Point>::new((13.0, 52.0)).unwrap();
    let map = Rect::new(coord! { x: 9.5, y: 49.5 }, coord! { x: 14.5, y: 54.5 });
    let area = || Geography::<4326, Polygon>::new(map).unwrap();
    let map = || Geometry::<4326>::new(map).unwrap();
    let square: Any =
        polygon![(x: 13., y: 53.), (x: 12., y: 53.), (x: 12., y: 52.), (x: 13., y: 52.)].into();
    let square = Geometry::<4326>::new(square).unwrap();
    for (index, filter, rows) in [
        ("place_spot", Spot.st_dwithin(here(), 1.5), 2),
        ("place_at", At.st_dwithin(berlin(), 100_000.0), 2),
        ("place_spot", Spot.bbox_overlaps(map()), 9),
        ("place_spot", Spot.st_within(map()), 9),
        ("place_spot", Spot.st_intersects(map()), 9),
        ("place_at", At.st_intersects(area()), 9),
        ("place_at", area().st_covers(At), 9),
        // One more is in the box around the globe's bulge.
        ("place_at", At.bbox_overlaps(area()), 10),
        (
            "place_outline",
            Outline.st_contains(Geometry::<4326, Point>::new((12.5, 52.5)).unwrap()),
            1,
        ),
        ("place_outline", Outline.st_covers(Geometry::<4326, Point>::new((12., 52.)).unwrap()), 1),
        ("place_outline", Outline.st_equals(square), 1),
    ] {
        assert_eq!(count(&database, filter.clone()).await, rows, "{filter:?}");
        // Together with another condition, which must not change what is meant.
        assert_eq!(count(&database, filter.clone().not()).await, 179 * 89 - rows, "{filter:?}");
        let plan = plan(&database, place::Entity::find().filter(filter)).await;
        assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{plan}");
    }
    assert_eq!(count(&database, Outline.st_contains(Spot)).await, 0);
    assert_eq!(count(&database, Outline.st_covers(Spot)).await, 179 * 89);
    // A corner is no inside; to touch is to intersect; none is as large as the map.
    assert_eq!(count(&database, Spot.st_within(Outline)).await, 0);
    assert_eq!(count(&database, Spot.st_intersects(Outline)).await, 179 * 89);
    assert_eq!(count(&database, Outline.st_covers(map())).await, 0);
    assert_eq!(count(&database, Outline.st_equals(map())).await, 0);
}

#[tokio::test]
async fn the_equals_sign_needs_a_field_that_says_what_its_binds_are() {
    let Some(database) = places().await else { return };
    let outline: Any = line_string![(x: 0., y: 0.), (x: 1., y: 2.)].into();
    place(1.0, 1.0, Some(outline.clone())).insert(&*database).await.unwrap();
    let outline = Geometry::<4326>::new(outline).unwrap();
    let ambiguous = place::Entity::find().filter(place::Column::Outline.eq(outline.clone()));
    let error = Error::from(ambiguous.one(&*database).await.unwrap_err());
    assert_eq!(error.sqlstate().as_deref(), Some("42725"));
    let cast = cast::Entity::find().filter(cast::Column::Outline.eq(outline.clone()));
    let found = cast.one(&*database).await.unwrap().unwrap();
    assert_eq!(found.outline, Some(outline));
    let mut change: cast::ActiveModel = found.into();
    change.outline = Set(Some(Geometry::new(Point::new(3.0, 4.0)).unwrap()));
    let changed = change.update(&*database).await.unwrap();
    assert_eq!(**changed.outline.as_ref().unwrap(), Any::Point(Point::new(3.0, 4.0)));
}

#[tokio::test]
async fn the_nearest_come_from_the_index_in_their_order() {
    let Some(database) = grid().await else { return };
    let berlin = || Geography::<4326, Point>::new((13.4, 52.5)).unwrap();
    let nearest =
        place::Entity::find().order_by_asc(place::Column::At.knn_distance(berlin())).limit(3);
    let found = nearest.clone().all(&*database).await.unwrap();
    let found: Vec<_> = found.iter().map(|it| (it.at.x(), it.at.y())).collect();
    assert_eq!(found, [(14.0, 52.0), (12.0, 52.0), (14.0, 54.0)]);
    let how = plan(&database, nearest).await;
    assert!(how.contains("Index Scan using place_at"), "{how}");

    let nearest =
        place::Entity::find().order_by_asc(place::Column::Spot.knn_distance(here())).limit(3);
    let how = plan(&database, nearest).await;
    assert!(how.contains("Index Scan using place_spot"), "{how}");

    // In metres for the one, in degrees for the other.
    let distances: (f64, f64) = place::Entity::find()
        .select_only()
        .expr(place::Column::At.st_distance(berlin()))
        .expr(place::Column::Spot.st_distance(here()))
        .filter(place::Column::Spot.st_equals(Geometry::<4326, Point>::new((14.0, 52.0)).unwrap()))
        .into_tuple()
        .one(&*database)
        .await
        .unwrap()
        .unwrap();
    assert!((60_000.0..70_000.0).contains(&distances.0), "{distances:?}");
    assert_eq!(distances.1, 1.0);
}

#[tokio::test]
async fn geojson_is_the_same_from_the_server_from_a_value_and_from_a_model() {
    let Some(database) = places().await else { return };
    let holed = polygon![
        exterior: [(x: 0., y: 0.), (x: 9., y: 0.), (x: 9., y: 9.)],
        interiors: [[(x: 2., y: 1.), (x: 3., y: 1.), (x: 3., y: 2.)]],
    ];
    let shapes: Vec<Any> = vec![
        point!(x: 13.25, y: -52.5).into(),
        line_string![(x: 0., y: 0.), (x: 1., y: 2.)].into(),
        holed.clone().into(),
        MultiPoint(vec![point!(x: 1., y: 2.)]).into(),
        MultiLineString(vec![line_string![(x: 0., y: 0.), (x: 1., y: 2.)]]).into(),
        MultiPolygon(vec![holed]).into(),
        Any::GeometryCollection(GeometryCollection(vec![point!(x: 1., y: 2.).into()])),
        Polygon::new(LineString(vec![]), vec![]).into(),
    ];
    for shape in shapes {
        let model = place(1.0, 1.0, Some(shape)).insert(&*database).await.unwrap();
        let server: String = place::Entity::find_by_id(model.id)
            .select_only()
            .expr(place::Column::Outline.st_as_geojson())
            .into_tuple()
            .one(&*database)
            .await
            .unwrap()
            .unwrap();
        // As numbers: the server writes 1 where Rust has 1.0.
        let numbers = |text: &str| -> serde_json::Value {
            serde_json::from_str(&text.replace(".0]", "]").replace(".0,", ",")).unwrap()
        };
        let server = numbers(&server);
        let outline = model.outline.as_ref().unwrap();
        assert_eq!(numbers(&outline.geojson().unwrap()), server);
        let text = serde_json::to_string(&model).unwrap();
        assert_eq!(numbers(&text)["outline"], server);
        assert_eq!(serde_json::from_str::<place::Model>(&text).unwrap(), model);
    }
    for (json, what) in [
        (r#"{"coordinates": [52.5, 113.4], "type": "Point"}"#, "swap them"),
        (r#"{"type": "Point", "coordinates": [1, 2, 3]}"#, "a position of 3 numbers"),
        (r#"{"type": "Point", "coordinates": [[1, 2]]}"#, "a list where a number"),
        (r#"{"type": "Point", "coordinates": [{"x": "y"}, 1]}"#, "an object among coordinates"),
        (r#"{"type": "Circle", "coordinates": [1, 2]}"#, "`Circle` is no type"),
        (r#"{"type": "Polygon"}"#, "a Polygon without coordinates"),
        (r#"{"type": "Point", "coordinates": []}"#, "cannot hold an empty point: leave such rows"),
        (r#"{"type": "MultiPoint", "coordinates": [[], [1, 2]]}"#, "cannot hold an empty point"),
        (
            r#"{"type": "Point", "coordinates": [1, 2], "crs": {"type": "name", "properties": {"name": "EPSG:3857"}}}"#,
            "its crs is EPSG:3857, expected EPSG:4326",
        ),
        (
            r#"{"type": "Point", "coordinates": [1, 2], "crs": {"type": "link"}}"#,
            "crs is not named",
        ),
        (r#"{"type": "LineString", "coordinates": []}"#, "is a LineString, expected a Point"),
    ] {
        let error = serde_json::from_str::<Geography<4326, Point>>(json).unwrap_err().to_string();
        assert!(error.contains(what), "{json}: {error}");
    }

    for crs in [
        "null",
        r#"{"type": "name", "properties": {"name": "EPSG:4326"}}"#,
        r#"{"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}"#,
    ] {
        let json = format!(r#"{{"type": "Point", "coordinates": [1, 2], "crs": {crs}}}"#);
        serde_json::from_str::<Geography<4326, Point>>(&json).unwrap();
    }
    let inner = r#"{"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2],
        "crs": {"type": "name", "properties": {"name": "EPSG:25833"}}}]}"#;
    let error = serde_json::from_str::<Geometry<4326>>(inner).unwrap_err().to_string();
    assert!(error.contains("EPSG:25833"), "{error}");

    let web: String = place::Entity::find()
        .select_only()
        .expr(
            Expr::val("SRID=3857;POINT(111319.49 0)")
                .cast_as("geometry")
                .st_transform(4326)
                .st_as_geojson(),
        )
        .limit(1)
        .into_tuple()
        .one(&*database)
        .await
        .unwrap()
        .unwrap();
    assert!(web.starts_with(r#"{"type":"Point","coordinates":[0.99999999"#), "{web}");
}

#[tokio::test]
async fn postgis_in_a_schema_of_its_own_works_or_the_error_says_which_search_path_would() {
    let Some(database) = database(Image::Postgis).await else { return };
    let sql =
        "DROP EXTENSION postgis CASCADE; CREATE SCHEMA geo; CREATE EXTENSION postgis SCHEMA geo;
               CREATE TABLE place (id bigserial PRIMARY KEY, spot geo.geometry(Point, 4326) NOT NULL,
                   at geo.geography(Point, 4326) NOT NULL, outline geo.geometry(Geometry, 4326))";
    database.execute_unprepared(sql).await.unwrap();
    let pg = |schema: Option<&str>| {
        let mut config = database.config();
        config.schema = schema.map(str::to_owned);
        Pg::from_config("apart", config)
    };
    let near = || place::Entity::find().filter(place::Column::Spot.st_dwithin(here(), 1.0));
    let with = pg(Some("public, geo"));
    place(13.0, 52.0, None).insert(&with).await.unwrap();
    assert_eq!(near().all(&with).await.unwrap().len(), 1);
    let without = pg(None);
    assert_eq!(place::Entity::find().all(&without).await.unwrap().len(), 1);
    let error = wharf::Error::from(near().all(&without).await.unwrap_err()).to_string();
    assert!(error.contains("postgis is in geo"), "{error}");
    assert!(error.ends_with("set `schema: public, geo` in the entry"), "{error}");
}
