//! What is over: what its name and its comment say of a database, and who drops it.

use std::{
    hash::BuildHasher as _,
    io::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use foldhash::fast::FixedState;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::{error::Error, pg::Pg, sql};

/// What templates' names begin with, and those of tests' databases.
pub(super) const TEMPLATE: &str = "wharf_template_";
const TEST: &str = "wharf_test_";
/// What a kept database's comment begins with; the time follows.
const KEPT: &str = "wharf: kept ";
const DAY: u64 = 24 * 3600;
/// How many templates of earlier builds stay.
const TEMPLATES: usize = 8;

/// What the names of this process' databases begin with.
pub(super) fn prefix() -> String {
    format!("{TEST}{}_{}_", machine(), std::process::id())
}

/// A process' number means something on its own machine only.
fn machine() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    format!("{:08x}", FixedState::default().hash_one(name) as u32)
}

pub(super) fn kept_now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{KEPT}{}", now.as_secs())
}

/// Drops what killed processes of this machine have left, what was kept a day ago, and templates of
/// earlier builds.
pub(super) async fn sweep(admin: &Pg) -> Result<(), Error> {
    let sql = "SELECT datname::text, shobj_description(oid, 'pg_database') FROM pg_database
                WHERE datname LIKE 'wharf\\_test\\_%' OR datname LIKE 'wharf\\_template\\_%'
                ORDER BY oid DESC";
    let own = format!("{TEST}{}_", machine());
    let mut templates = 0;
    for row in admin.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await? {
        let name: String = row.try_get_by_index(0)?;
        let comment: Option<String> = row.try_get_by_index(1)?;
        let over = if name.starts_with(TEMPLATE) {
            templates += 1;
            templates > TEMPLATES
        } else if let Some(rest) = name.strip_prefix(&own) {
            let process = rest.split('_').next().unwrap_or_default();
            match comment.as_deref().and_then(|it| it.strip_prefix(KEPT)) {
                Some(since) => is_old(since),
                None => !is_alive(process),
            }
        } else {
            false
        };
        if over {
            let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", sql::quote_ident(&name));
            // Another process may be at it, too, or use it.
            let _ = admin.execute_unprepared(&drop).await;
        }
    }
    Ok(())
}

fn is_old(since: &str) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    since.parse::<u64>().is_ok_and(|since| now.saturating_sub(since) > DAY)
}

fn is_alive(process: &str) -> bool {
    let Ok(process) = process.parse() else {
        return false;
    };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), None)
        != Err(nix::errno::Errno::ESRCH)
}

/// Past a test harness that keeps what tests print to itself.
pub(super) fn tell(what: &str) {
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "wharf: {what}");
}
