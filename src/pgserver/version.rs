//! PostgreSQL's versions, as the file and the programs write them.

/// `17`, `17.5`: the numbers alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    parts: Vec<u32>,
}

impl Version {
    /// From what the file says; `None` if it is not a version.
    pub(crate) fn parse(text: &str) -> Option<Version> {
        let parts = text.trim().split('.').map(|p| p.parse().ok());
        let parts = parts.collect::<Option<Vec<u32>>>()?;
        (!parts.is_empty()).then_some(Version { parts })
    }

    /// From `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`, `18beta2` included; `None` if
    /// it is some other program that speaks.
    pub(crate) fn from_program(output: &str) -> Option<Version> {
        let (_, rest) = output.split_once("(PostgreSQL) ")?;
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        Version::parse(rest[..digits.unwrap_or(rest.len())].trim_end_matches('.'))
    }

    /// Whether this one is what `wanted` asks for: `17` is met by 17.5, `17.4` is not.
    pub(crate) fn meets(&self, wanted: &Version) -> bool {
        self.parts.starts_with(&wanted.parts)
    }

    /// The number that data folders are bound to: `17`, `9.6`.
    pub(crate) fn major(&self) -> String {
        match self.parts.as_slice() {
            [first, second, ..] if *first < 10 => format!("{first}.{second}"),
            [first, ..] => first.to_string(),
            [] => String::new(),
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.parts.iter().map(u32::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn a_program_tells_its_version() {
        let cases = [
            ("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n", "15.13"),
            ("pg_ctl (PostgreSQL) 18beta2\n", "18"),
            ("postgres (PostgreSQL) 9.6.24", "9.6.24"),
        ];
        for (said, version) in cases {
            assert_eq!(Version::from_program(said), Version::parse(version), "{said}");
        }
        assert_eq!(Version::from_program("node v22.1.0"), None);
    }

    #[test]
    fn a_major_version_is_met_by_its_minors_only() {
        let v = |text| Version::parse(text).unwrap();
        assert!(v("17.5").meets(&v("17")));
        assert!(v("17.5").meets(&v("17.5")));
        assert!(!v("17.5").meets(&v("17.4")));
        assert!(!v("15.13").meets(&v("17")));
        assert_eq!(v("9.6.24").major(), "9.6");
        assert!(v("17.10") > v("17.9"));
    }
}
