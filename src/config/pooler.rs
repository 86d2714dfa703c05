//! A pooler between wharf and the server.

/// How a pooler between wharf and the server (PgBouncer, a cloud's proxy) lends its server connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooler {
    /// There is none. The default. A pooler that is there is found out when a connection opens, and refused.
    #[default]
    None,
    /// For as long as a client is connected.
    Session,
    /// For one transaction at a time, so that nothing may stay on a connection after it.
    Transaction,
}

impl Pooler {
    /// As the file spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Pooler::None => "none",
            Pooler::Session => "session",
            Pooler::Transaction => "transaction",
        }
    }
}
