//! PostGIS: where things are.
