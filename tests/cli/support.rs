//! A project with a file, the program run in it, and a terminal.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use tempfile::TempDir;

/// How long anything may take to happen.
const PATIENCE: Duration = Duration::from_secs(60);

pub const WHARF: &str = env!("CARGO_BIN_EXE_wharf");

/// A folder with `etc/infra.yaml`. If that has a server, nothing of it is left at the end.
pub struct Project {
    dir: TempDir,
}

impl Project {
    pub fn new(yaml: &str) -> Project {
        let project = Project { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(project.path().join("etc")).unwrap();
        project.write(yaml);
        project
    }

    pub fn write(&self, yaml: &str) {
        std::fs::write(self.path().join("etc/infra.yaml"), yaml).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(WHARF);
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        // Servers of users other than root, beside the project.
        command.env("XDG_DATA_HOME", self.path().join("data"));
        for (key, _) in std::env::vars_os() {
            let key = key.to_string_lossy();
            if key.starts_with("INFRA_") || key.starts_with("PG") || key == "WHARF_FILE" {
                command.env_remove(&*key);
            }
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Done {
        Done::of(args, self.command(args).output().unwrap())
    }

    pub fn run_with(&self, args: &[&str], input: &str) -> Done {
        let mut child = self.spawn(args, Stdio::piped());
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Done::of(args, child.wait_with_output().unwrap())
    }

    pub fn spawn(&self, args: &[&str], stdin: Stdio) -> Child {
        let mut command = self.command(args);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// The program on a terminal of 30 rows and 120 columns.
    pub fn terminal(&self, args: &[&str]) -> Terminal {
        self.terminal_of(args, 120, 30)
    }

    pub fn terminal_of(&self, args: &[&str], columns: u16, rows: u16) -> Terminal {
        self.terminal_with(args, size(columns, rows), &[])
    }

    pub fn terminal_with(&self, args: &[&str], size: PtySize, env: &[(&str, &str)]) -> Terminal {
        Terminal::open(self, args, size, env)
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let yaml = std::fs::read_to_string(self.path().join("etc/infra.yaml")).unwrap_or_default();
        if yaml.contains("pgserver:") {
            let cleaned = self.run(&["server", "clean", "--yes"]);
            assert!(cleaned.code == 0 || std::thread::panicking(), "{cleaned:?}");
            // Its lock is what stays.
            let name =
                yaml.split("name: ").nth(1).and_then(|rest| rest.split([',', '}', '\n']).next());
            if let Some(name) = name {
                let _ = std::fs::remove_dir_all(Path::new("/var/lib/wharf/pgserver").join(name));
            }
        }
    }
}

pub fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { rows, cols: columns, ..PtySize::default() }
}

/// A name for a server that no other test has.
pub fn name(test: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("wharf-cli-{}-{next}-{test}", std::process::id())
}

/// Whether an engine answers; said if none does.
pub fn engine() -> bool {
    let there = docker(&["info"]);
    if !there {
        let required = std::env::var("WHARF_TEST_DOCKER").is_ok_and(|value| value == "require");
        assert!(!required, "WHARF_TEST_DOCKER=require, and no Docker engine answers");
        say("NOT RUN: no Docker engine answers on this machine");
    }
    there
}

/// Past the harness, which keeps what a test prints to itself.
pub fn say(what: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{what}").unwrap();
}

pub fn docker(args: &[&str]) -> bool {
    let output = Command::new("docker").args(args).output();
    output.is_ok_and(|output| output.status.success())
}

/// Builds and runs the program of a crate of migrations, one at a time: all of them are
/// `target/debug/migration`.
pub fn run_by_cargo(command: &mut Command) -> Output {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    command.output().unwrap()
}

/// What a run came to.
#[derive(Debug)]
pub struct Done {
    #[allow(dead_code)] // shown where a test fails
    pub args: Vec<String>,
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn of(args: &[&str], output: Output) -> Done {
        Done {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It went well.
    #[track_caller]
    pub fn well(self) -> Done {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    #[track_caller]
    pub fn failed(self, code: i32, said: &[&str]) -> Done {
        assert_eq!(self.code, code, "{self:#?}");
        for part in said {
            assert!(self.err.contains(part), "no {part:?} in {self:#?}");
        }
        self
    }

    #[track_caller]
    pub fn says(&self, parts: &[&str]) -> &Done {
        for part in parts {
            assert!(self.out.contains(part), "no {part:?} in {self:#?}");
        }
        self
    }

    #[track_caller]
    /// Has said this on standard error.
    pub fn notes(&self, parts: &[&str]) -> &Done {
        for part in parts {
            assert!(self.err.contains(part), "no {part:?} in {}", self.err);
        }
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// What it printed on standard error, which is one object.
    pub fn json_error(&self) -> serde_json::Value {
        serde_json::from_str(&self.err).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The program on a terminal of its own, and what is on the screen.
pub struct Terminal {
    child: Box<dyn portable_pty::Child + Send + Sync>,
    keys: Box<dyn std::io::Write + Send>,
    screen: Arc<Mutex<vt100::Parser>>,
    /// All that came, as it came.
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: std::thread::JoinHandle<()>,
    master: Box<dyn portable_pty::MasterPty + Send>,
}

impl Terminal {
    fn open(project: &Project, args: &[&str], size: PtySize, env: &[(&str, &str)]) -> Terminal {
        let pty = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(WHARF);
        command.args(args);
        command.cwd(project.path());
        command.env("TERM", "xterm-256color");
        command.env_remove("NO_COLOR");
        for (name, value) in env {
            command.env(name, value);
        }
        command.env("XDG_DATA_HOME", project.path().join("data"));
        let child = pty.slave.spawn_command(command).unwrap();
        drop(pty.slave);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size.rows, size.cols, 0)));
        let mut reader = pty.master.try_clone_reader().unwrap();
        let shared = screen.clone();
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = received.clone();
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(any) = reader.read(&mut bytes) {
                if any == 0 {
                    return;
                }
                kept.lock().unwrap().extend_from_slice(&bytes[..any]);
                shared.lock().unwrap().process(&bytes[..any]);
            }
        });
        let keys = pty.master.take_writer().unwrap();
        Terminal { child, keys, screen, bytes: received, reader, master: pty.master }
    }

    pub fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// What the program wrote, with all that a screen does not show.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    pub fn is_full_screen(&self) -> bool {
        self.screen.lock().unwrap().screen().alternate_screen()
    }

    /// Whether any character on the screen has a color, or is dimmed.
    pub fn has(&self, style: fn(&vt100::Cell) -> bool) -> bool {
        let screen = self.screen.lock().unwrap();
        let (rows, columns) = screen.screen().size();
        let mut places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        places.any(|(row, column)| screen.screen().cell(row, column).is_some_and(style))
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        self.screen.lock().unwrap().screen_mut().set_size(rows, columns);
        self.master.resize(size(columns, rows)).unwrap();
    }

    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until all of this is on the screen.
    #[track_caller]
    pub fn shows(&self, parts: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let text = self.text();
            if parts.iter().all(|part| text.contains(part)) {
                return text;
            }
            assert!(begun.elapsed() < PATIENCE, "{parts:?} did not come:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until none of it is.
    #[track_caller]
    pub fn shows_no(&self, part: &str) {
        let begun = Instant::now();
        while self.text().contains(part) {
            assert!(begun.elapsed() < PATIENCE, "{part} stays:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end; its exit code.
    pub fn ends(&mut self) -> u32 {
        let begun = Instant::now();
        loop {
            // What it said at its end has to be on the screen, too.
            let ended = self.child.try_wait().unwrap().filter(|_| self.reader.is_finished());
            if let Some(status) = ended {
                return status.exit_code();
            }
            assert!(begun.elapsed() < PATIENCE, "it did not end:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.process_id().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(signal: &str, pid: u32) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill {signal} {pid}");
}

/// A copy of the program that every user of the machine can reach.
pub fn for_everybody(dir: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let copy = dir.join("wharf");
    std::fs::copy(WHARF, &copy).unwrap();
    for path in [dir, &copy] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    copy
}
