//! A statement on its way: its text and binds, who wrote it, what its text tells.

mod author;
mod facts;
mod lasting;
mod text;

use sea_orm::Statement;

#[cfg(feature = "copy")]
pub(crate) use author::Bind;
pub(crate) use author::{Author, Writer};
pub(crate) use facts::{Facts, Leaves};
pub(crate) use lasting::Lasting;
pub(crate) use text::{AsIs, Text, Texts};

/// A statement on its way.
pub(crate) struct Request<'a> {
    pub(crate) statement: Statement,
    pub(crate) author: Author<'a>,
    hash: u64,
}

impl<'a> Request<'a> {
    pub(crate) fn new(author: Author<'a>) -> Request<'a> {
        let statement = author.write();
        let hash = Text::new(&statement.sql).hash;
        Request { statement, author, hash }
    }

    pub(crate) fn text(&self) -> Text<'_> {
        Text { sql: &self.statement.sql, hash: self.hash }
    }
}
