//! The settings of a container's server: a file that only its user `postgres` can read. On the command line they would be
//! there for everybody who may look at processes or containers, with the passwords that some of them hold.

use std::collections::BTreeMap;

use super::engine::{CallError, Engine};
use super::files;
use crate::pgserver::conf;

/// Where a container has the file.
pub(super) const PATH: &str = "/etc/wharf-postgresql.conf";

/// Returns the text of the file, for data in `folder`. What the image has set in its own file comes
/// before what wharf's file asks for.
pub(super) fn text(asked_for: &BTreeMap<String, String>, folder: &str) -> String {
    let mut lines = vec![
        "# Written by wharf from `pgserver` in the service's file when it created this container."
            .to_owned(),
    ];
    lines.push(format!("{INCLUDE}{}", conf::quoted(&format!("{folder}/postgresql.conf"))));
    lines.extend(asked_for.iter().map(|(name, value)| conf::line(name, value)));
    lines.join("\n") + "\n"
}

/// Reads what a container was created with; nothing for one that has no such file.
pub(super) async fn read(
    engine: &Engine,
    container: &str,
) -> Result<BTreeMap<String, String>, CallError> {
    let text = files::read(engine, container, PATH).await?.unwrap_or_default();
    Ok(asked_for(&text))
}

const INCLUDE: &str = "include ";

/// What [`text`] was made from.
fn asked_for(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().skip_while(|line| !line.starts_with(INCLUDE)).skip(1);
    conf::pairs(&lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_was_created_with_is_read_from_its_file() {
        let conf = [("work_mem", "5MB"), ("cluster_name", "it's"), ("archive_command", "a = 'b'")];
        let conf: BTreeMap<_, _> =
            conf.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let text = text(&conf, "/var/lib/postgresql/data");
        assert_eq!(asked_for(&text), conf);
        assert!(text.contains("\ninclude '/var/lib/postgresql/data/postgresql.conf'\n"), "{text}");
        assert!(asked_for("").is_empty());
    }
}
