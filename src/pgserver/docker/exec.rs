//! Programs that run inside a container.

use std::io;

use docker_api::Exec;
use docker_api::conn::TtyChunk;
use docker_api::opts::{ExecCreateOpts, ExecResizeOpts, ExecStartOpts};
use futures_util::io::AsyncWriteExt as _;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::engine::{CallError, Engine};
use crate::pgserver::program::{Chunk, Program, Running, TerminalSize};

/// Gives the terminal its first size, because older engines take none at the start.
const SIZED: &str = r#"stty rows "$1" cols "$2" 2>/dev/null; shift 2; exec "$@""#;

impl Engine {
    /// Runs a program in a container, as its image's user. Its input is written by a task of its own.
    pub(super) async fn run(
        &self,
        container: &str,
        mut program: Program,
        mut env: Vec<String>,
    ) -> Result<Running, CallError> {
        let mut argv = program.argv;
        let size = program.terminal.as_mut().map(|size| *size.borrow_and_update());
        if let Some(TerminalSize { rows, columns }) = size {
            let sized = ["sh", "-c", SIZED, "sh"].map(str::to_owned).into_iter();
            argv = sized.chain([rows.to_string(), columns.to_string()]).chain(argv).collect();
        }
        let mut opts = ExecCreateOpts::builder()
            .command(argv)
            .attach_stdin(program.input.is_some())
            .attach_stdout(true)
            .attach_stderr(true);
        let is_terminal = size.is_some();
        if is_terminal {
            opts = opts.tty(true);
            env.push(format!("TERM={}", std::env::var("TERM").unwrap_or_default()));
        }
        if let Some(user) = program.user {
            opts = opts.user(user);
        }
        let opts = opts.env(env).build();
        let exec = self.ask(Exec::create(self.docker().clone(), container, &opts)).await?;
        // An engine puts headers before what it sends unless the start asks for a terminal too; docker-api looks for
        // them by how the program was created.
        let start = ExecStartOpts::builder().tty(is_terminal).build();
        let started = self.ask(exec.start(&start)).await?;
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
        let mut resizing = match program.terminal {
            Some(size) => {
                let inspected = self.ask(exec.inspect()).await?;
                let id = inspected.id.unwrap_or_default();
                Some(Resizing { engine: self.clone(), id, size })
            }
            None => None,
        };
        let mut resizer = None;
        let output = output.map(move |chunk| {
            // The program runs and has its first size, as it writes something. The next size is sent from now on.
            if let Some(resizing) = resizing.take() {
                resizer = Some(AbortOnDrop(tokio::spawn(resizing.follow()).abort_handle()));
            }
            let _ = &resizer;
            chunk
        });
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

/// Tells the engine the size of a program's terminal as it changes.
struct Resizing {
    engine: Engine,
    id: String,
    size: watch::Receiver<TerminalSize>,
}

impl Resizing {
    async fn follow(mut self) {
        while self.size.changed().await.is_ok() {
            let TerminalSize { rows, columns } = *self.size.borrow_and_update();
            // Engines read the size from the query, and docker-api writes it to the body alone. It puts an id into
            // the path as it is, so this makes `/exec/ID/resize?h=30&w=120&to=/resize`.
            let id = format!("{}/resize?h={rows}&w={columns}&to=", self.id);
            let exec = Exec::get(self.engine.docker().clone(), id);
            let size = ExecResizeOpts::builder().build();
            // The engine's empty answer is no JSON, which docker-api takes for an error; and the program may have
            // ended.
            let _ = self.engine.ask(exec.resize(&size)).await;
        }
    }
}

/// Ends a task with the stream that needs it.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
