//! The server's log file, from near its end on.

use std::io::{self, SeekFrom};
use std::time::Duration;

use async_stream::try_stream;
use futures_util::Stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::pgserver::program::Chunk;

/// How often it is looked whether something was added.
const INTERVAL: Duration = Duration::from_millis(200);
const BLOCK: usize = 64 * 1024;

pub(super) fn read(
    mut file: File,
    lines: usize,
    follow: bool,
) -> impl Stream<Item = io::Result<Chunk>> + Send + 'static {
    try_stream! {
        let mut at = start(&mut file, lines).await?;
        loop {
            let length = file.metadata().await?.len();
            if length < at {
                // It was emptied.
                at = 0;
            }
            file.seek(SeekFrom::Start(at)).await?;
            let mut block = Vec::with_capacity(BLOCK);
            let any = (&mut file).take(BLOCK as u64).read_to_end(&mut block).await?;
            at += any as u64;
            if any > 0 {
                yield Chunk::Out(block);
            } else if follow {
                tokio::time::sleep(INTERVAL).await;
            } else {
                break;
            }
        }
    }
}

/// Where the last lines begin.
async fn start(file: &mut File, lines: usize) -> io::Result<u64> {
    let length = file.metadata().await?.len();
    if lines == 0 {
        return Ok(length);
    }
    let (mut at, mut found) = (length, 0);
    while at > 0 {
        let from = at.saturating_sub(BLOCK as u64);
        file.seek(SeekFrom::Start(from)).await?;
        let mut block = Vec::new();
        file.take(at - from).read_to_end(&mut block).await?;
        for (offset, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = from + offset as u64 + 1;
            // The end of the last line begins none.
            if after < length {
                found += 1;
                if found == lines {
                    return Ok(after);
                }
            }
        }
        at = from;
    }
    Ok(0)
}
