//! The library's log on the terminal: the latest line beside a spinner, warnings above it.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::out;
use super::visible::visible_line;

/// The spinner of the work that goes on, if any does.
static SPINNER: OnceLock<ProgressBar> = OnceLock::new();

/// Shows warnings; more if asked to.
pub(super) fn listen(verbose: u8) {
    let most = match verbose {
        0 => Level::INFO,
        1 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let shown = Shown { most, verbose: verbose > 0 };
    // A second one in a process is a test's.
    let _ = tracing_subscriber::registry().with(shown).try_init();
}

/// Shows what goes on from here until the value is dropped.
pub(super) struct Work {
    bar: ProgressBar,
}

impl Work {
    pub(super) fn begin(what: &str) -> Work {
        let bar = SPINNER.get_or_init(|| match std::io::stderr().is_terminal() {
            true => ProgressBar::new_spinner(),
            false => ProgressBar::hidden(),
        });
        bar.reset();
        bar.set_message(visible_line(what).into_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Work { bar: bar.clone() }
    }

    /// Shows how much of `total` bytes is done; `None` if that is not known.
    pub(super) fn bytes(&self, total: Option<u64>) -> impl Fn(u64) + Send + Sync + 'static {
        let template = match total {
            Some(_) => {
                "{msg} {bar:30} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}"
            }
            None => "{spinner} {msg} {decimal_bytes}, {decimal_bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        let bar = self.bar.clone();
        move |done| bar.set_position(done)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A screen is drawn, in which every line of a log would leave a hole.
static DRAWN: AtomicBool = AtomicBool::new(false);

/// Nothing is shown until the value is dropped.
pub(super) struct Muted;

impl Muted {
    pub(super) fn begin() -> Muted {
        DRAWN.store(true, Ordering::Relaxed);
        Muted
    }
}

impl Drop for Muted {
    fn drop(&mut self) {
        DRAWN.store(false, Ordering::Relaxed);
    }
}

/// The server's notices are shown.
static NOTICES: AtomicBool = AtomicBool::new(false);

/// Shows what the server says beside its rows, from here on.
pub(super) fn show_notices() {
    NOTICES.store(true, Ordering::Relaxed);
}

/// Under which the driver logs that.
const NOTICE: &str = "sqlx::postgres::notice";

struct Shown {
    most: Level,
    verbose: bool,
}

impl<S: Subscriber> Layer<S> for Shown {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let level = *metadata.level();
        if metadata.target() == NOTICE && NOTICES.load(Ordering::Relaxed) && level <= Level::INFO {
            let mut text = Text::default();
            event.record(&mut text);
            let severity = if level == Level::INFO { "NOTICE" } else { "WARNING" };
            return out::note(format_args!("{severity}: {}", text.0.trim()));
        }
        let drawn = DRAWN.load(Ordering::Relaxed);
        let target = metadata.target();
        // The user waits for the statement and sees that it is slow.
        let is_own = target.starts_with("wharf") && !target.starts_with("wharf::monitor");
        if drawn || level > self.most || !is_own {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let text = text.0.trim();
        let spinner = SPINNER.get().filter(|bar| !bar.is_finished() && !bar.is_hidden());
        match (level, spinner) {
            (Level::INFO, Some(bar)) if !self.verbose => {
                bar.set_message(visible_line(text).into_owned())
            }
            // Without a terminal, progress is of no interest unless asked for.
            (Level::INFO, None) if !self.verbose => {}
            (Level::WARN | Level::ERROR, Some(bar)) => {
                bar.suspend(|| out::note(format_args!("warning: {text}")));
            }
            (Level::WARN | Level::ERROR, None) => out::note(format_args!("warning: {text}")),
            (_, Some(bar)) => bar.suspend(|| out::note(text)),
            (_, None) => out::note(text),
        }
    }
}

/// An event in one line.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.0.push_str(value),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "{name}={value:?} "),
        };
    }
}
