//! Which PostgreSQL this machine has.

/// The major version of the newest one that is installed.
pub fn major() -> String {
    let installed = std::fs::read_dir("/usr/lib/postgresql").unwrap();
    let major = |it: std::io::Result<std::fs::DirEntry>| {
        let folder = it.unwrap();
        let name = folder.file_name().into_string().unwrap();
        folder.path().join("bin/initdb").exists().then(|| name.parse::<u32>().unwrap())
    };
    installed.filter_map(major).max().unwrap().to_string()
}
