//! Programs that run inside a container.

use std::io;

use docker_api::Exec;
use docker_api::conn::TtyChunk;
use docker_api::opts::{ExecCreateOpts, ExecStartOpts};
use futures_util::io::AsyncWriteExt as _;
use futures_util::{FutureExt as _, StreamExt as _};

use super::engine::{CallError, Engine};
use crate::pgserver::program::{Chunk, Program, Running};

/// Gives the terminal its size: older engines take none, and docker-api sends a later one to where no
/// engine reads it.
const SIZED: &str = r#"stty rows "$1" cols "$2" 2>/dev/null; shift 2; exec "$@""#;

impl Engine {
    /// Runs a program in a container, as its image's user. Its input is written by a task of its own.
    pub(super) async fn run(
        &self,
        container: &str,
        program: Program,
        mut env: Vec<String>,
    ) -> Result<Running, CallError> {
        let mut argv = program.argv;
        if let Some((rows, columns)) = program.terminal {
            let sized = ["sh", "-c", SIZED, "sh"].map(str::to_owned).into_iter();
            argv = sized.chain([rows.to_string(), columns.to_string()]).chain(argv).collect();
        }
        let mut opts = ExecCreateOpts::builder()
            .command(argv)
            .attach_stdin(program.input.is_some())
            .attach_stdout(true)
            .attach_stderr(true);
        if program.terminal.is_some() {
            opts = opts.tty(true);
            env.push(format!("TERM={}", std::env::var("TERM").unwrap_or_default()));
        }
        let opts = opts.env(env).build();
        let exec = self.ask(Exec::create(self.docker().clone(), container, &opts)).await?;
        let started = self.ask(exec.start(&ExecStartOpts::builder().build())).await?;
        let (output, writer) = started.split();
        if let Some(mut input) = program.input {
            let mut writer = Box::pin(writer);
            tokio::spawn(async move {
                while let Some(Ok(bytes)) = input.next().await {
                    // A program that has ended reads no more.
                    if writer.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                let _ = writer.close().await;
            });
        }
        let output = output.map(|chunk| match chunk {
            Ok(TtyChunk::StdErr(bytes)) => Ok(Chunk::Err(bytes)),
            Ok(TtyChunk::StdOut(bytes) | TtyChunk::StdIn(bytes)) => Ok(Chunk::Out(bytes)),
            Err(error) => Err(io::Error::other(error.to_string())),
        });
        let engine = self.clone();
        let code = async move {
            let ended = engine.ask(exec.inspect()).await;
            let ended = ended.map_err(|error| io::Error::other(error.to_string()))?;
            let code = ended.exit_code.and_then(|code| i32::try_from(code).ok());
            code.ok_or_else(|| io::Error::other("the engine returned no exit code"))
        };
        Ok(Running { output: output.boxed(), code: code.boxed() })
    }
}
