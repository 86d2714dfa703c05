//! A server's log, line by line.

use std::io;

use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};

use super::program::Chunk;

/// Lines out of chunks, which end anywhere. A last line without its end is given when the chunks end.
pub(crate) fn lines(
    chunks: BoxStream<'static, io::Result<Chunk>>,
) -> impl Stream<Item = io::Result<String>> + Send + 'static {
    // Standard output and error are two texts: each has a line of its own that is not ended yet.
    let state = (chunks, Vec::new(), Vec::new(), false);
    stream::unfold(state, |(mut chunks, mut out, mut err, ended)| async move {
        if ended {
            return None;
        }
        let mut lines = Vec::new();
        let ended = match chunks.next().await {
            Some(Ok(Chunk::Out(bytes))) => cut(&mut out, &bytes, &mut lines),
            Some(Ok(Chunk::Err(bytes))) => cut(&mut err, &bytes, &mut lines),
            Some(Err(error)) => {
                lines.push(Err(error));
                true
            }
            None => {
                for rest in [&mut out, &mut err] {
                    if !rest.is_empty() {
                        lines.push(Ok(text(rest)));
                    }
                }
                true
            }
        };
        Some((stream::iter(lines), (chunks, out, err, ended)))
    })
    .flatten()
}

/// Adds to a text and cuts off its whole lines; false, as the text has not ended.
fn cut(open: &mut Vec<u8>, bytes: &[u8], lines: &mut Vec<io::Result<String>>) -> bool {
    open.extend(bytes);
    while let Some(end) = open.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = open.drain(..=end).collect();
        lines.push(Ok(text(&line)));
    }
    false
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches(['\n', '\r']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn chunks_end_anywhere_and_lines_at_their_ends() {
        let out = |text: &str| Ok(Chunk::Out(text.into()));
        let aside = Ok(Chunk::Err("aside\r\n".into()));
        let chunks = vec![out("one\ntw"), out("o\n"), aside, out("thr"), out("ee")];
        let lines: Vec<String> =
            lines(stream::iter(chunks).boxed()).map(Result::unwrap).collect().await;
        assert_eq!(lines, ["one", "two", "aside", "three"]);
    }
}
