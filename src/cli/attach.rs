//! A program beside the server, joined to this process' standard input and output.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use futures_util::StreamExt as _;
use futures_util::stream;
use ratatui::crossterm::terminal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::failure::Failure;
use super::out;
use super::server::must_run;
use crate::pgserver::{Chunk, PgServer, Program, TerminalSize};

const BLOCK: usize = 16 * 1024;

/// Runs it to its end, which becomes this command's own.
pub(super) async fn run(server: &PgServer, mut program: Program) -> Result<(), Failure> {
    must_run(server).await?;
    let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
    if interactive {
        program.terminal = Some(terminal_size()?);
    }
    let inside = !runs_here(server).await;
    if inside || !interactive {
        program = program.input(input());
    }
    let raw = match interactive && inside {
        true => Some(Raw::begin()?),
        false => None,
    };
    // On a terminal Ctrl-C is for the program; elsewhere it ends this process and so the program.
    let _unheard = (interactive && !inside).then(|| tokio::spawn(ignore_interrupts()));
    let mut running = server.spawn(program).await?;
    while let Some(chunk) = running.output.next().await {
        match chunk? {
            Chunk::Out(bytes) => out::stream(&bytes)?,
            Chunk::Err(bytes) => out::written(io::stderr().write_all(&bytes))?,
        }
    }
    let code = running.code.await?;
    drop(raw);
    match u8::try_from(code) {
        Ok(0) => Ok(()),
        code => Err(Failure::Code(code.unwrap_or(1))),
    }
}

/// Returns the terminal's size, and each new one as its window changes.
fn terminal_size() -> io::Result<watch::Receiver<TerminalSize>> {
    let current = || {
        // A terminal that does not tell is taken for a small one.
        let (columns, rows) = terminal::size().unwrap_or((80, 24));
        TerminalSize { rows, columns }
    };
    // Listens before it looks, so that no change is missed.
    let mut changes = signal(SignalKind::window_change())?;
    let (sender, receiver) = watch::channel(current());
    tokio::spawn(async move {
        while changes.recv().await.is_some() && !sender.is_closed() {
            sender.send_replace(current());
        }
    });
    Ok(receiver)
}

/// Whether programs run on this machine itself, with its own terminal.
async fn runs_here(server: &PgServer) -> bool {
    let at = server.running().await.ok().flatten();
    at.is_some_and(|at| at.runtime == crate::config::Runtime::Native)
}

async fn ignore_interrupts() {
    while tokio::signal::ctrl_c().await.is_ok() {}
}

/// What comes in, read by a thread of its own: nothing else can wait for it and be given up.
fn input() -> stream::BoxStream<'static, io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut block = vec![0; BLOCK];
        loop {
            let read = match io::stdin().lock().read(&mut block) {
                Ok(0) => return,
                Ok(any) => Ok(block[..any].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            if sender.blocking_send(read).is_err() {
                return;
            }
        }
    });
    let blocks =
        stream::unfold(
            receiver,
            |mut receiver| async move { Some((receiver.recv().await?, receiver)) },
        );
    blocks.boxed()
}

/// The terminal hands every key on while this lives.
struct Raw;

impl Raw {
    fn begin() -> io::Result<Raw> {
        terminal::enable_raw_mode()?;
        Ok(Raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = terminal::disable_raw_mode();
    }
}
