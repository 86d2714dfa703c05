//! A server for development: the file's section `pgserver:` brought to life.
//!
//! [`PgServer`] is what callers hold. Behind it stands one trait (`launcher.rs`) with one
//! implementation per way to run PostgreSQL: `native` (this machine's programs) and `embedded`
//! (the engine inside this process, feature `embedded`).

#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod folder;
mod launcher;
mod login;
#[cfg(unix)]
mod native;
mod request;
mod server;
#[cfg(unix)]
mod switch;
mod temporary;
mod version;

pub use error::{Declined, PgServerError};
pub use server::{Endpoint, PgServer, Status};

/// Whether an address belongs to an embedded engine of this process, which serves one
/// connection in all. Costs a lock and no round trip.
pub(crate) fn is_single_connection(host: &str, port: u16) -> bool {
    #[cfg(feature = "embedded")]
    {
        embedded::serves(host, port)
    }
    #[cfg(not(feature = "embedded"))]
    {
        let _ = (host, port);
        false
    }
}
