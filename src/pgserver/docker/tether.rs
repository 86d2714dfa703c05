//! Ends a program in a container with whoever reads it.
//!
//! An engine goes on running a program when its caller is gone, and has no call that ends one. So a second program stands
//! beside it: its input ends with its caller, also if that is killed, and then it ends the first.

use std::io;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::oneshot;

use super::engine::{CallError, Engine};
use crate::pgserver::folder::random_hex;
use crate::pgserver::program::{Program, Running};

/// How long the watcher may take to read that it is needed no more.
const RELEASED: Duration = Duration::from_secs(5);

/// What the program and all that it starts have in their environment, to be known by.
const MARK: &str = "WHARF_PROGRAM";

/// Waits for a word, or for the end of its input, and then ends what has the mark `$1`: first with SIGTERM, at which
/// PostgreSQL's programs cancel their statement. Looks for a second at least, because the program may just be starting.
const WATCH: &str = r#"
IFS= read -r word
[ "$word" = done ] && exit 0
tries=0
while [ $tries -lt 100 ]; do
  pids=$(grep -ls "$1" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3)
  [ -n "$pids" ] || [ $tries -lt 10 ] || exit 0
  signal=TERM
  [ $tries -lt 50 ] || signal=KILL
  [ -z "$pids" ] || kill -$signal $pids 2>/dev/null
  tries=$((tries + 1))
  sleep 0.1
done
"#;

impl Engine {
    /// Runs a program in a container; it ends when what is returned is dropped, or this process ends.
    pub(super) async fn run_tethered(
        &self,
        container: &str,
        program: Program,
        mut env: Vec<String>,
    ) -> Result<Running, CallError> {
        let failed = |error: io::Error| CallError::Failed(error.to_string());
        let mark = format!("{MARK}={}", random_hex().map_err(failed)?);
        env.push(mark.clone());
        let (release, released) = oneshot::channel::<()>();
        // The end of this stream is that of the watcher's input; a word comes before it if the program ended by itself.
        let word = stream::once(released)
            .filter_map(async |released| released.ok().map(|()| Ok(b"done\n".to_vec())));
        let watch = Program::new(["sh", "-c", WATCH, "sh", &mark]).input(word.boxed());
        let mut watcher = self.run(container, watch, Vec::new()).await?;
        let running = self.run(container, program, env).await?;
        let code = async move {
            let code = running.code.await;
            let _ = release.send(());
            // This process may end next, and the watcher has to have read the word by then.
            let ended = async { while watcher.output.next().await.is_some() {} };
            let _ = tokio::time::timeout(RELEASED, ended).await;
            code
        };
        Ok(Running { output: running.output, code: code.boxed() })
    }
}
