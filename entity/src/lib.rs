//! The entities of wharf's examples: one module a database. This file is written by hand;
//! everything below it is generated (README.md says how) and never edited.

pub mod audit;
pub mod library;
pub mod shop;
