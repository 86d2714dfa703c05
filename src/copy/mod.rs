//! Rows by the million: COPY.
