//! pgvector: what is near in meaning.
