//! A program that runs beside the server: in its container, or on this machine.

use std::io;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

/// The most that is kept of what a program says on standard error.
const SAID: usize = 4096;

/// What to run. It finds the server in its environment, as PostgreSQL's own programs look for it.
pub(crate) struct Program {
    pub(crate) argv: Vec<String>,
    /// Its standard input; empty if there is none.
    pub(crate) input: Option<BoxStream<'static, io::Result<Vec<u8>>>>,
    /// The user of its container as whom it runs, if not as the image's.
    #[cfg(feature = "docker")]
    pub(crate) user: Option<&'static str>,
    /// Runs it on a terminal of this size, which may change.
    pub(crate) terminal: Option<watch::Receiver<TerminalSize>>,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TerminalSize {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// A program that has begun.
pub(crate) struct Running {
    /// What it says, to be read to the end. On a terminal of this machine it is nothing: the program
    /// writes there itself.
    pub(crate) output: BoxStream<'static, io::Result<Chunk>>,
    /// Its exit code, once its output has ended.
    pub(crate) code: BoxFuture<'static, io::Result<i32>>,
}

/// A piece of what a program says; where lines end does not matter.
pub(crate) enum Chunk {
    Out(Vec<u8>),
    Err(Vec<u8>),
}

impl Program {
    pub(crate) fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Program {
        let argv = argv.into_iter().map(Into::into).collect();
        Program {
            argv,
            input: None,
            #[cfg(feature = "docker")]
            user: None,
            terminal: None,
        }
    }

    pub(crate) fn input(mut self, input: BoxStream<'static, io::Result<Vec<u8>>>) -> Program {
        self.input = Some(input);
        self
    }

    /// Runs it as another user of its container. Root, who is the image's, would follow links in a folder of that user's.
    #[cfg(feature = "docker")]
    pub(crate) fn user(mut self, user: &'static str) -> Program {
        self.user = Some(user);
        self
    }

    pub(crate) fn name(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }
}

impl Running {
    /// Writes its standard output to `to`, telling `progress` the bytes so far. An error if it does
    /// not end with 0: its own words on standard error.
    pub(crate) async fn succeed(
        mut self,
        to: &mut (impl AsyncWrite + Unpin),
        mut progress: impl FnMut(u64),
    ) -> io::Result<()> {
        let (mut said, mut written) = (Vec::new(), 0);
        while let Some(chunk) = self.output.next().await {
            match chunk? {
                Chunk::Out(bytes) => {
                    to.write_all(&bytes).await?;
                    written += bytes.len() as u64;
                    progress(written);
                }
                Chunk::Err(bytes) => said.extend(bytes),
            }
            said.truncate(SAID);
        }
        to.flush().await?;
        match self.code.await? {
            0 => Ok(()),
            code => {
                let said = String::from_utf8_lossy(&said);
                Err(io::Error::other(format!("{} (exit code {code})", said.trim())))
            }
        }
    }

    /// The same, with standard output as text.
    pub(crate) async fn text(self) -> io::Result<String> {
        let mut text = Vec::new();
        self.succeed(&mut text, |_| {}).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
