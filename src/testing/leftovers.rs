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
/// What the comments of kept databases and of templates begin with; a time follows, in seconds.
const KEPT: &str = "wharf: kept ";
const USED: &str = "wharf: used ";
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Returns what the names of this process's databases begin with: its machine, its number and the time, in minutes.
pub(super) fn prefix() -> String {
    format!("{TEST}{}_{}_{:x}_", machine(), std::process::id(), now() / 60)
}

/// A process's number means something where it runs only. Containers may have one host name, or one kernel.
fn machine() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let processes = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{:08x}", FixedState::default().hash_one((host, boot, processes)) as u32)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(super) fn kept_now() -> String {
    format!("{KEPT}{}", now())
}

/// The comment of a template that is used now.
pub(super) fn used_now() -> String {
    format!("{USED}{}", now())
}

/// Whether a template's comment is to be written anew. Not at each use, because it locks the database.
pub(super) fn is_stale(comment: Option<&str>) -> bool {
    age(comment, USED).is_none_or(|age| age > HOUR)
}

/// The seconds since the time in a comment.
fn age(comment: Option<&str>, prefix: &str) -> Option<u64> {
    let since: u64 = comment?.strip_prefix(prefix)?.parse().ok()?;
    Some(now().saturating_sub(since))
}

/// Drops what killed processes of this machine have left, what was kept or left on other machines a day ago, and
/// templates that nobody has used for a week.
pub(super) async fn sweep(admin: &Pg) -> Result<(), Error> {
    let sql = "SELECT datname::text, shobj_description(oid, 'pg_database'),
                      EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)
                 FROM pg_database d
                WHERE datname LIKE 'wharf\\_test\\_%' OR datname LIKE 'wharf\\_template\\_%'";
    let own = machine();
    for row in admin.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await? {
        let name: String = row.try_get_by_index(0)?;
        let comment: Option<String> = row.try_get_by_index(1)?;
        let is_used: bool = row.try_get_by_index(2)?;
        if is_over(&name, comment.as_deref(), is_used, &own) {
            let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", sql::quote_ident(&name));
            // Another process may be at it, too, or use it.
            let _ = admin.execute_unprepared(&drop).await;
        }
    }
    Ok(())
}

fn is_over(name: &str, comment: Option<&str>, is_used: bool, own: &str) -> bool {
    if name.starts_with(TEMPLATE) {
        // One without a comment was made by an earlier version of wharf.
        return age(comment, USED).is_none_or(|age| age > 7 * DAY);
    }
    if let Some(age) = age(comment, KEPT) {
        return age > DAY;
    }
    let Some(rest) = name.strip_prefix(TEST) else { return false };
    let mut parts = rest.split('_');
    let (machine, process, minute) = (parts.next(), parts.next(), parts.next());
    match machine == Some(own) {
        true => !is_alive(process.unwrap_or_default()),
        // Of another machine, nobody can tell whether its process is alive.
        false => {
            let made = minute.and_then(|minute| u64::from_str_radix(minute, 16).ok()).unwrap_or(0);
            !is_used && now().saturating_sub(made.saturating_mul(60)) > DAY
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_told_by_name_comment_and_process() {
        let (minute, long_ago) = (format!("{:x}", now() / 60), "1a2b3");
        let alive = std::process::id();
        let hours = |hours: u64| now() - hours * HOUR;
        let own = |process: u32, minute: &str| format!("wharf_test_own_{process}_{minute}_0");
        for (name, comment, is_used, over) in [
            (own(alive, &minute), None, false, false),
            (own(4_000_000, &minute), None, false, true),
            (own(4_000_000, &minute), Some(format!("{KEPT}{}", hours(1))), false, false),
            (own(alive, &minute), Some(format!("{KEPT}{}", hours(25))), false, true),
            (format!("wharf_test_other_1_{minute}_0"), None, false, false),
            (format!("wharf_test_other_1_{long_ago}_0"), None, false, true),
            (format!("wharf_test_other_1_{long_ago}_0"), None, true, false),
            ("wharf_template_x".to_owned(), Some(format!("{USED}{}", hours(25))), false, false),
            ("wharf_template_x".to_owned(), Some(format!("{USED}{}", hours(8 * 24))), false, true),
            ("wharf_template_x".to_owned(), None, false, true),
        ] {
            assert_eq!(
                is_over(&name, comment.as_deref(), is_used, "own"),
                over,
                "{name} {comment:?}"
            );
        }
    }
}
