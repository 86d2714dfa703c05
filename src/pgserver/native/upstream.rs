//! What a standby follows, as the end of its `wharf.conf`.

use std::path::PathBuf;

use crate::pgserver::conf::{line, pairs};

/// Begins those lines. They come last, because they have the last word.
const MARK: &str = "# Written by wharf for a standby.";

/// The primary that a standby follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upstream {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    /// Where its password is, if it asks for one.
    pub(super) passfile: Option<PathBuf>,
    /// What the primary calls its standbys, each with its port.
    pub(super) name: String,
    /// The slot that keeps on the primary what the standby has not received. It is made for one clone.
    pub(super) slot: String,
}

impl Upstream {
    /// Those of the standby at a port.
    fn lines(&self, port: u16) -> [String; 4] {
        // What is longer than 63 bytes is cut off, and the port is what counts.
        let name: String = self.name.chars().take(40).collect();
        let mut words = vec![
            ("host", self.host.clone()),
            ("port", self.port.to_string()),
            ("user", self.user.clone()),
            ("application_name", format!("{name}-{port}")),
        ];
        words.extend(self.passfile.iter().map(|file| ("passfile", file.display().to_string())));
        let conninfo: Vec<String> = words.iter().map(|(key, value)| word(key, value)).collect();
        [
            MARK.to_owned(),
            line("primary_conninfo", &conninfo.join(" ")),
            line("primary_slot_name", &self.slot),
            // By default, a standby tries to connect every 5 s.
            line("wal_retrieve_retry_interval", "200ms"),
        ]
    }
}

/// A word of libpq's connection strings.
fn word(key: &str, value: &str) -> String {
    format!("{key}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Settings of a standby that follows `upstream` and listens at a port, or of a primary, in place of whatever they were
/// the settings of.
pub(super) fn joined(settings: &str, upstream: Option<&Upstream>, port: u16) -> String {
    let own = settings.split_once(MARK).map_or(settings, |(own, _)| own);
    let lines = upstream.map(|upstream| upstream.lines(port).join("\n") + "\n");
    format!("{own}{}", lines.unwrap_or_default())
}

/// The slot that the standby with these settings was made for.
pub(super) fn slot_of(settings: &str) -> Option<String> {
    let (_, lines) = settings.split_once(MARK)?;
    pairs(lines).remove("primary_slot_name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_change_hands_and_keep_what_is_their_own() {
        let own = "port = 1\nprimary_slot_name = 'the_files'\n";
        let upstream = Upstream {
            host: "127.0.0.1".to_owned(),
            port: 5433,
            user: "it's \\ me".to_owned(),
            passfile: Some("/a b/passfile".into()),
            name: "shop".to_owned(),
            slot: "wharf_1".to_owned(),
        };
        assert_eq!(slot_of(own), None);
        let standby = joined(own, Some(&upstream), 5434);
        assert_eq!(slot_of(&standby).as_deref(), Some("wharf_1"));
        let conninfo = pairs(&standby).remove("primary_conninfo").unwrap();
        assert_eq!(
            conninfo,
            "host='127.0.0.1' port='5433' user='it\\'s \\\\ me' application_name='shop-5434' \
             passfile='/a b/passfile'"
        );
        let other = Upstream { slot: "wharf_2".to_owned(), ..upstream };
        assert_eq!(slot_of(&joined(&standby, Some(&other), 5434)).as_deref(), Some("wharf_2"));
        assert_eq!(joined(&standby, None, 5434), own);
    }
}
