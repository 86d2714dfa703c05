//! Files that no other user reads, holds, or leads elsewhere by a link.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use wharf::config::Runtime;
use wharf::pgserver::PgServer;

use crate::docker::{Server, docker, engine, said};
use crate::support::{Dir, config, run, server};

/// Whether this is root, who runs the server as another user. Without root these tests say that they did not run.
fn is_root() -> bool {
    let is_root = nix::unistd::Uid::effective().is_root();
    if !is_root {
        let mut stderr = std::io::stderr();
        std::io::Write::write_all(&mut stderr, b"NOT RUN: this test needs root\n").unwrap();
    }
    is_root
}

async fn started_once(dir: &Dir) -> PgServer {
    let pg = server(dir, config(Runtime::Native));
    pg.start().await.unwrap();
    pg.stop().await.unwrap();
    pg
}

#[tokio::test]
async fn a_pipe_in_place_of_a_file_holds_nobody_up() {
    if !is_root() {
        return;
    }
    let dir = Dir::new("pipe");
    let pg = started_once(&dir).await;
    let pid_file = dir.native().join("data/postmaster.pid");
    nix::unistd::mkfifo(&pid_file, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    // Opened for reading, a pipe waits for somebody who writes.
    let looked = tokio::time::timeout(std::time::Duration::from_secs(20), pg.running()).await;
    // Lets a task go that waits all the same.
    let writer = std::fs::OpenOptions::new().read(true).write(true).open(&pid_file);
    drop(writer);
    std::fs::remove_file(&pid_file).unwrap();
    assert!(looked.expect("it waits for the pipe").unwrap().is_none());
}

#[tokio::test]
async fn what_a_container_is_given_is_read_by_its_postgres_alone() {
    if !engine() {
        return;
    }
    let server = Server::new("inside");
    let mut config = server.config();
    config.replica.enabled = true;
    config.postgres_conf.insert("archive_command".into(), "curl -u me:hush".into());
    server.pg(config).start().await.unwrap();
    for container in [server.name.clone(), server.standby()] {
        // Files that came with the image are everybody's.
        let given = "find /run /etc /tmp -xdev -type f -name '*wharf*' 2>/dev/null || true";
        let given = said(&["exec", &container, "sh", "-c", given]);
        assert!(!given.is_empty());
        for path in given.lines() {
            let read = docker(&["exec", "-u", "65534:65534", &container, "cat", path]);
            assert!(!read.status.success(), "anybody reads {path} in {container}");
        }
    }
}

#[tokio::test]
async fn links_in_a_volume_lead_the_containers_root_nowhere() {
    if !engine() {
        return;
    }
    let server = Server::new("volume-links");
    let pg = server.pg(server.config());
    pg.start().await.unwrap();
    let sh =
        |user: &str, script: &str| said(&["exec", "-u", user, &server.name, "sh", "-c", script]);
    // Root's, with what the server has to read there.
    sh("root", "cp \"$PGDATA/pg_hba.conf\" /etc/victim && chmod 644 /etc/victim");
    sh("postgres", "ln -sf /etc/victim \"$PGDATA/pg_hba.conf\"");
    let before = sh("root", "cat /etc/victim");
    let mut config = server.config();
    config.replica.enabled = true;
    let error = server.pg(config).start().await.unwrap_err().to_string();
    assert!(error.contains("could not let the primary admit a standby"), "{error}");
    assert_eq!(sh("root", "cat /etc/victim"), before);
}

#[tokio::test]
async fn a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays_as_it_is() {
    let dir = Dir::new("lock-link");
    let folder = dir.path().join("wharf");
    std::fs::create_dir(&folder).unwrap();
    let target = dir.path().join("target");
    std::fs::write(&target, "open to all").unwrap();
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::symlink(&target, folder.join("start.lock")).unwrap();
    let error = server(&dir, config(Runtime::Native)).start().await.unwrap_err().to_string();
    assert!(error.contains("start.lock"), "{error}");
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o644);
}

#[tokio::test]
async fn a_temporary_server_ends_no_process_but_its_own() {
    if !is_root() {
        return;
    }
    let pg = PgServer::temporary(config(Runtime::Native), []);
    let at = pg.start().await.unwrap();
    let pid_file = run(&at, "SELECT current_setting('data_directory') || '/postmaster.pid'").await;
    let pid_file = std::path::PathBuf::from(pid_file.unwrap());
    let postmaster = std::fs::read_to_string(&pid_file).unwrap();
    let postmaster = postmaster.lines().next().unwrap().to_owned();
    // Root's, which user postgres could not end itself.
    let mut other = Command::new("sleep").arg("600").spawn().unwrap();
    std::fs::write(&pid_file, format!("{}\n", other.id())).unwrap();
    pg.stop().await.unwrap();
    let is_alive = other.try_wait().unwrap().is_none();
    let _ = Command::new("kill").args(["-QUIT", &postmaster]).status();
    let _ = other.kill();
    other.wait().unwrap();
    assert!(is_alive, "a process of root's was ended for user postgres");
}

#[tokio::test]
async fn settings_stand_on_no_command_line_and_a_change_of_them_is_still_seen() {
    if !engine() {
        return;
    }
    let server = Server::new("settings-file");
    let mut config = server.config();
    let secret = "host=primary password=hush";
    for (name, value) in [
        ("primary_conninfo", secret),
        ("archive_command", "curl -u 'me:hush' 'https://backup.example.org/'"),
        ("cluster_name", "it's \\ mine"),
        ("work_mem", "5MB"),
    ] {
        config.postgres_conf.insert(name.to_owned(), value.to_owned());
    }
    let pg = server.pg(config.clone());
    let at = pg.start().await.unwrap();
    assert_eq!(run(&at, "SHOW primary_conninfo").await.unwrap(), secret);
    assert_eq!(run(&at, "SHOW cluster_name").await.unwrap(), "it's \\ mine");
    assert_eq!(run(&at, "SHOW work_mem").await.unwrap(), "5MB");
    assert!(!said(&["inspect", &server.name]).contains("hush"));
    let told = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'";
    assert!(!said(&["exec", &server.name, "sh", "-c", told]).contains("hush"));
    assert!(pg.differences().await.unwrap().is_empty());
    // Also one that is secret, and one that is not there any more.
    config.postgres_conf.insert("primary_conninfo".into(), "host=primary password=hush2".into());
    config.postgres_conf.insert("work_mem".into(), "6MB".into());
    config.postgres_conf.remove("archive_command");
    let pg = server.pg(config.clone());
    let differences = pg.differences().await.unwrap();
    let shown: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(shown[0].starts_with("archive_command (curl -u"), "{shown:?}");
    assert_eq!(shown[1], "primary_conninfo (*** -> ***)");
    assert_eq!(shown[2], "work_mem (5MB -> 6MB)");
    let at = pg.restart().await.unwrap();
    assert_eq!(run(&at, "SHOW work_mem").await.unwrap(), "6MB");
    assert_eq!(run(&at, "SHOW archive_command").await.unwrap(), "(disabled)");
    // What is set beside the file is the server's own.
    run(&at, "ALTER SYSTEM SET random_page_cost = 1.5").await;
    let at = pg.restart().await.unwrap();
    assert_eq!(run(&at, "SHOW random_page_cost").await.unwrap(), "1.5");
}
