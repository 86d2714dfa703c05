//! What can be asked of places, as SeaORM's expressions.

use sea_orm::{
    IntoSimpleExpr,
    sea_query::{BinOper, ExprTrait as _, Func, SimpleExpr},
};

/// PostGIS's functions and operators for a column or an expression; the other side is a column, an
/// expression, or a [`Geometry`](super::Geometry) or [`Geography`](super::Geography), which is bound.
///
/// Those that say so use a GiST index on the column where they stand as a filter, or as the first
/// ORDER BY of a query with LIMIT.
///
/// ```
/// # use sea_orm::{EntityTrait, QueryFilter, QueryTrait, sea_query::Expr};
/// use geo_types::{Rect, coord};
/// use wharf::ext::postgis::{Geometry, SpatialExpr};
/// # fn doc() -> Result<(), wharf::Error> {
/// let map = Rect::new(coord! { x: 13.0, y: 52.3 }, coord! { x: 13.8, y: 52.7 });
/// let map = Geometry::<4326>::new(map)?;
/// let on_the_map = Expr::col("place").bbox_overlaps(map);
/// # Ok(()) }
/// ```
pub trait SpatialExpr: IntoSimpleExpr + Sized {
    /// `ST_Distance`: metres between geographies, units of the SRID between geometries. It uses no index:
    /// to filter by it, see [`st_dwithin`](SpatialExpr::st_dwithin), to sort by it,
    /// [`knn_distance`](SpatialExpr::knn_distance).
    fn st_distance(self, other: impl IntoSimpleExpr) -> SimpleExpr {
        call("ST_Distance", [self.into_simple_expr(), other.into_simple_expr()])
    }

    /// `ST_DWithin`: whether no further away than `distance`, in metres for geographies, else in units of
    /// the SRID. By the index.
    fn st_dwithin(self, other: impl IntoSimpleExpr, distance: f64) -> SimpleExpr {
        let (this, other) = (self.into_simple_expr(), other.into_simple_expr());
        call("ST_DWithin", [this, other, distance.into()])
    }

    /// `ST_Within`: whether wholly inside of `other`, not on its edge alone. Geometries only; by the index.
    fn st_within(self, other: impl IntoSimpleExpr) -> SimpleExpr {
        call("ST_Within", [self.into_simple_expr(), other.into_simple_expr()])
    }

    /// `ST_Contains`: whether `other` is wholly inside. Geometries only; by the index.
    fn st_contains(self, other: impl IntoSimpleExpr) -> SimpleExpr {
        call("ST_Contains", [self.into_simple_expr(), other.into_simple_expr()])
    }

    /// `ST_Covers`: whether no point of `other` is outside; one on the edge is not. For geographies as
    /// well, in place of [`st_contains`](SpatialExpr::st_contains); by the index.
    fn st_covers(self, other: impl IntoSimpleExpr) -> SimpleExpr {
        call("ST_Covers", [self.into_simple_expr(), other.into_simple_expr()])
    }

    /// `ST_Intersects`: whether they have a point in common. By the index.
    fn st_intersects(self, other: impl IntoSimpleExpr) -> SimpleExpr {
        call("ST_Intersects", [self.into_simple_expr(), other.into_simple_expr()])
    }

    /// `ST_Equals`: whether they are the same set of points, wherever each begins. Geometries only; by the
    /// index.
    fn st_equals(self, other: impl IntoSimpleExpr) -> SimpleExpr {
        call("ST_Equals", [self.into_simple_expr(), other.into_simple_expr()])
    }

    /// `&&`: whether their bounding boxes overlap, which for points and a `Rect` on a plane is whether
    /// they are in it. The cheapest of the filters; by the index. For geographies the box is one in space
    /// around the great circles between the corners, not one of degrees.
    fn bbox_overlaps(self, other: impl IntoSimpleExpr) -> SimpleExpr {
        self.into_simple_expr().binary(BinOper::Custom("&&"), other.into_simple_expr())
    }

    /// `<->`: the distance, for `order_by_asc` with a `limit`: the index then gives the nearest rows
    /// first and no others.
    fn knn_distance(self, other: impl IntoSimpleExpr) -> SimpleExpr {
        self.into_simple_expr().binary(BinOper::Custom("<->"), other.into_simple_expr())
    }

    /// `ST_AsGeoJSON`: the text of a GeoJSON geometry, with nine decimals; for another SRID than 4326
    /// with a `crs`, which GeoJSON's standard has given up. See [`st_transform`](SpatialExpr::st_transform).
    fn st_as_geojson(self) -> SimpleExpr {
        call("ST_AsGeoJSON", [self.into_simple_expr()])
    }

    /// `ST_Transform`: the same place in another SRID. Geometries only; an index on the column is of no
    /// use to what is asked of the result.
    fn st_transform(self, srid: i32) -> SimpleExpr {
        call("ST_Transform", [self.into_simple_expr(), srid.into()])
    }
}

impl<T: IntoSimpleExpr> SpatialExpr for T {}

fn call<const N: usize>(function: &'static str, arguments: [SimpleExpr; N]) -> SimpleExpr {
    Func::cust(function).args(arguments).into()
}
