//! TimescaleDB: tables that grow with time.
