//! A program of this machine that is to find the server.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::pgserver::program::{Chunk, Program, Running};
use crate::pgserver::server::Endpoint;

const CHUNK: usize = 64 * 1024;

/// Runs it, from `path` if that is given. It ends with whoever reads it.
pub(super) fn run(
    path: Option<PathBuf>,
    program: Program,
    server: &Endpoint,
) -> io::Result<Running> {
    let mut command = Command::new(path.unwrap_or_else(|| PathBuf::from(program.name())));
    command.args(program.argv.get(1..).unwrap_or_default());
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("PG") {
            command.env_remove(key);
        }
    }
    command.env("PGHOST", &server.host).env("PGPORT", server.port.to_string());
    command.env("PGUSER", &server.user);
    if let Some(password) = &server.password {
        command.env("PGPASSWORD", password.expose_secret());
    }
    command.kill_on_drop(true);
    if program.terminal.is_some() {
        let mut child = command.spawn()?;
        let code = async move { child.wait().await.map(code) };
        return Ok(Running { output: stream::empty().boxed(), code: code.boxed() });
    }
    command.stdin(match program.input {
        Some(_) => Stdio::piped(),
        None => Stdio::null(),
    });
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let (Some(mut stdin), Some(mut input)) = (child.stdin.take(), program.input) {
        tokio::spawn(async move {
            while let Some(Ok(bytes)) = input.next().await {
                // A program that has ended reads no more.
                if stdin.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
    }
    let out = child.stdout.take().map(|out| chunks(out).map(|bytes| bytes.map(Chunk::Out)));
    let err = child.stderr.take().map(|err| chunks(err).map(|bytes| bytes.map(Chunk::Err)));
    let output =
        stream::select(stream::iter(out).flatten().boxed(), stream::iter(err).flatten().boxed());
    let code = async move { child.wait().await.map(code) };
    Ok(Running { output: output.boxed(), code: code.boxed() })
}

fn chunks(
    read: impl AsyncRead + Send + Unpin + 'static,
) -> impl stream::Stream<Item = io::Result<Vec<u8>>> + Send + 'static {
    stream::try_unfold(read, |mut read| async move {
        let mut chunk = Vec::with_capacity(CHUNK);
        let any = read.read_buf(&mut chunk).await?;
        Ok((any > 0).then_some((chunk, read)))
    })
}

/// As a shell counts: 128 and the signal for one that was killed.
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
