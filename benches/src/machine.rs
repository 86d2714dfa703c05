//! What it ran on, as far as that is known.

use std::{fs, process::Command, thread};

pub fn line(postgresql: &str) -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal");
    let memory = memory.and_then(|it| it.strip_suffix(" kB")?.parse::<u64>().ok());
    let memory =
        memory.map_or("? GiB".to_owned(), |kib| format!("{} GiB", (kib + (1 << 19)) >> 20));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    let rustc = Command::new("rustc").arg("--version").output().ok();
    let rustc = rustc.and_then(|output| String::from_utf8(output.stdout).ok());
    let known = |text: Option<String>| text.map_or("?".to_owned(), |text| text.trim().to_owned());
    format!(
        "{}, {cores} cores, {memory}; kernel {}; PostgreSQL {postgresql}; {}",
        known(field("/proc/cpuinfo", "model name")),
        known(kernel),
        known(rustc),
    )
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start().strip_prefix(':')?.trim().to_owned())
}
