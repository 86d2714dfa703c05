//! A position in the WAL of a cluster, and its text.

use std::{fmt, str::FromStr};

/// A position in the WAL. A server that was promoted begins a timeline of its own, so a number alone does not tell whether one
/// server has what another one wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) timeline: u32,
    /// PostgreSQL's LSN, as a number.
    pub(crate) lsn: u64,
}

/// Bytes of a WAL page, unless PostgreSQL was built with another `--with-wal-blocksize`.
const PAGE: u64 = 8_192;
/// Bytes of a page's header, and of that of a segment's first page.
const HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;

impl Position {
    /// Reads `pg_current_wal_insert_lsn()` and the `pg_walfile_name()` of it as the end of the last record. After a record that
    /// fills a page, PostgreSQL gives the place behind the next page's header, which a standby reaches with the next record
    /// only.
    pub(crate) fn record_end(lsn: &str, wal_file: &str) -> Option<Position> {
        let lsn = parse_lsn(lsn)?;
        let (timeline, segment) = (hex32(wal_file.get(..8)?)?, hex32(wal_file.get(16..24)?)?);
        let header = if is_behind_long_header(lsn, segment) {
            LONG_HEADER
        } else if lsn % PAGE == HEADER {
            HEADER
        } else {
            0
        };
        Some(Position { timeline, lsn: lsn - header })
    }

    /// Reads an LSN as it is.
    pub(crate) fn new(timeline: u32, lsn: &str) -> Option<Position> {
        Some(Position { timeline, lsn: parse_lsn(lsn)? })
    }

    /// Whether a server that has replayed up to `self`, on this timeline or on the way to it, has what was written before
    /// `other`. A server that is ahead in bytes on an older timeline may lack it.
    pub(crate) fn covers(self, other: Position) -> bool {
        self.timeline >= other.timeline && self.lsn >= other.lsn
    }

    /// Returns a position that covers what both cover.
    pub(crate) fn merge(self, other: Position) -> Position {
        Position { timeline: self.timeline.max(other.timeline), lsn: self.lsn.max(other.lsn) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X} (timeline {})", self.lsn >> 32, self.lsn & 0xFFFF_FFFF, self.timeline)
    }
}

/// Whether a position is behind the header of the first page of its segment, which has this number within its 4 GiB. In the
/// middle of a segment, a record may end as far into a page. The segments' size follows, because it is a power of two.
fn is_behind_long_header(lsn: u64, segment: u32) -> bool {
    let low = lsn & 0xFFFF_FFFF;
    match (low.checked_sub(LONG_HEADER), u64::from(segment)) {
        (Some(start), 0) => start == 0,
        (Some(start), segment) => {
            start.is_multiple_of(segment) && (start / segment).is_power_of_two()
        }
        (None, _) => false,
    }
}

fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some(u64::from(hex32(high)?) << 32 | u64::from(hex32(low)?))
}

/// Digits only: `from_str_radix` would take `+5` as well.
fn hex32(text: &str) -> Option<u32> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

/// What was written to a database up to a moment, for a read in another process: [`Pg::causal_token`](crate::Pg::causal_token)
/// gives it, [`Pg::at_least`](crate::Pg::at_least) takes it.
///
/// Its text has up to 34 ASCII characters and is made for a cookie or a header. It holds no secret, and whoever forges one only
/// has their own reads go to the primary.
///
/// ```
/// let token: wharf::CausalToken = "6873a1f00c52d3b4.2.3a0005b8".parse()?;
/// assert_eq!(token.to_string(), "6873a1f00c52d3b4.2.3a0005b8");
/// # Ok::<_, wharf::InvalidToken>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CausalToken {
    /// The system identifier of the cluster.
    pub(crate) cluster: u64,
    pub(crate) position: Position,
}

impl CausalToken {
    /// In place of the system identifier, if the login may not read it.
    pub(crate) const ANY_CLUSTER: u64 = 0;
}

impl fmt::Display for CausalToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CausalToken { cluster, position: Position { timeline, lsn } } = self;
        write!(f, "{cluster:016x}.{timeline:x}.{lsn:x}")
    }
}

impl FromStr for CausalToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<CausalToken, InvalidToken> {
        let token = || {
            let mut parts = text.split('.').map(|part| {
                let is_hex = !part.is_empty()
                    && part.len() <= 16
                    && part.bytes().all(|byte| byte.is_ascii_hexdigit());
                is_hex.then(|| u64::from_str_radix(part, 16).ok()).flatten()
            });
            let (cluster, timeline, lsn) = (parts.next()??, parts.next()??, parts.next()??);
            let timeline = u32::try_from(timeline).ok().filter(|timeline| *timeline > 0)?;
            let position = Position { timeline, lsn };
            parts.next().is_none().then_some(CausalToken { cluster, position })
        };
        token().ok_or(InvalidToken)
    }
}

/// A text is not a [`CausalToken`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the text is not a causal token, which has three hexadecimal numbers with dots between; ignore it"
)]
pub struct InvalidToken;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_header_is_no_part_of_a_record() {
        let end = |lsn, file| Position::record_end(lsn, file).unwrap().lsn;
        assert_eq!(end("16/B370C018", "0000000100000016000000B3"), 0x16_B370_C000);
        assert_eq!(end("0/3001F18", "000000010000000000000003"), 0x300_1F18);
        // The first page of a segment has the long header, whatever the segments' size: 16 MiB, 1 MiB, 1 GiB.
        assert_eq!(end("0/3000028", "000000010000000000000003"), 0x300_0000);
        assert_eq!(end("0/3100028", "000000010000000000000031"), 0x310_0000);
        assert_eq!(end("0/40000028", "000000010000000000000001"), 0x4000_0000);
        assert_eq!(end("1/28", "000000010000000100000000"), 0x1_0000_0000);
        // As far into another page, a record may end.
        assert_eq!(end("0/3100028", "000000010000000000000003"), 0x310_0028);
        assert_eq!(end("0/3002028", "000000010000000000000003"), 0x300_2028);
        assert_eq!(end("0/2028", "000000010000000000000000"), 0x2028);
        let position = Position::record_end("0/3001F18", "0000002A0000000000000003").unwrap();
        assert_eq!(position.timeline, 42);
        for (lsn, file) in [("", ""), ("0", "000000010000000000000003"), ("0/3001F18", "short")] {
            assert_eq!(Position::record_end(lsn, file), None);
        }
    }

    #[test]
    fn a_server_on_an_older_timeline_lacks_what_was_written_on_a_newer_one() {
        let at = |timeline, lsn| Position { timeline, lsn };
        assert!(at(1, 500).covers(at(1, 500)));
        assert!(!at(1, 500).covers(at(1, 501)));
        assert!(!at(1, 900).covers(at(2, 500)));
        assert!(at(2, 900).covers(at(1, 500)));
        assert_eq!(at(1, 900).merge(at(2, 500)), at(2, 900));
    }

    #[test]
    fn a_token_is_read_back_and_garbled_ones_are_refused() {
        let token = CausalToken {
            cluster: u64::MAX,
            position: Position { timeline: u32::MAX, lsn: u64::MAX },
        };
        assert_eq!(token.to_string().parse(), Ok(token));
        for garbled in [
            "",
            ".",
            "..",
            "1.2",
            "1.2.3.4",
            "1.0.3",
            "1.2.g",
            "+1.2.3",
            "1.2.3 ",
            "1.100000000.3",
            "00000000000000001.2.3",
            "é.2.3",
            "1.-2.3",
        ] {
            assert_eq!(garbled.parse::<CausalToken>(), Err(InvalidToken), "{garbled}");
        }
    }
}
