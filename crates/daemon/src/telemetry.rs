//! Logs on standard error: for people with time and colour, for journald with its priorities instead.

use std::io::{self, IsTerminal as _};
use std::panic::PanicHookInfo;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Compact, DefaultFields, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The environment variable that says what is logged, if no flag does.
pub const LOG_VARIABLE: &str = "CORACLE_LOG";
/// What is logged if nobody says anything.
pub const DEFAULT_LEVEL: &str = "info";

/// Why logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error(
        "log filter {filter:?} is not valid: use error, warn, info, debug, trace or off, or directives such as \
         info,coracle_manager::raft=trace"
    )]
    Filter {
        /// The text.
        filter: String,
        /// What is wrong.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody did it before.
    #[error("logs are already set up in this process")]
    AlreadySet(#[source] tracing_subscriber::util::TryInitError),
}

/// Sets up logs for the whole process. `flag` is what the command line says; without it the variable
/// [`LOG_VARIABLE`] counts, without that [`DEFAULT_LEVEL`]. A bare level is that of Coracle's own
/// messages; those of its libraries are then logged from `warn` up.
///
/// Also replaces the panic hook: a panic is logged with its place, but without its message, which may
/// hold anything.
///
/// # Errors
/// If the filter is not valid or logs are set up already.
pub fn init(flag: Option<&str>) -> Result<(), TelemetryError> {
    let variable = std::env::var(LOG_VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = filter(flag.or(variable.as_deref()).unwrap_or(DEFAULT_LEVEL))?;
    let style = if stderr_is_journal() {
        Style::Journal
    } else if io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    {
        Style::Colour
    } else {
        Style::Plain
    };
    match style {
        Style::Journal => subscriber(JournalFormat::new(), filter, false, io::stderr).try_init(),
        Style::Colour | Style::Plain => {
            let format = Format::default().compact().with_target(true);
            subscriber(format, filter, matches!(style, Style::Colour), io::stderr).try_init()
        }
    }
    .map_err(TelemetryError::AlreadySet)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

enum Style {
    Journal,
    Colour,
    Plain,
}

fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    let bare: Option<LevelFilter> = text.trim().parse().ok().filter(|_| !text.contains(['=', ',']));
    let directives = match bare {
        Some(level) => format!("{},coracle={level}", level.min(LevelFilter::WARN)),
        None => text.to_owned(),
    };
    EnvFilter::builder()
        .parse(directives)
        .map_err(|source| TelemetryError::Filter { filter: text.to_owned(), source })
}

fn subscriber<Formatter, Output>(
    format: Formatter,
    filter: EnvFilter,
    colour: bool,
    output: Output,
) -> impl Subscriber + Send + Sync
where
    Formatter: FormatEvent<
            tracing_subscriber::layer::Layered<EnvFilter, tracing_subscriber::Registry>,
            DefaultFields,
        > + Send
        + Sync
        + 'static,
    Output: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    use tracing_subscriber::layer::SubscriberExt as _;
    let layer = tracing_subscriber::fmt::layer().event_format(format).with_ansi(colour).with_writer(output);
    tracing_subscriber::registry().with(filter).with(layer)
}

/// Whether standard error is the stream to the journal that the service manager opened: its device and
/// inode are in JOURNAL_STREAM (systemd.exec(5)). The variable alone says nothing, since children
/// inherit it.
fn stderr_is_journal() -> bool {
    let Ok(announced) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    announced == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// Lines for journald: its own time, so none of ours, and the priority in front (sd-daemon(3)).
#[derive(Debug)]
struct JournalFormat {
    format: Format<Compact, ()>,
}

impl JournalFormat {
    fn new() -> Self {
        Self { format: Format::default().compact().without_time().with_level(false).with_target(true) }
    }
}

impl<S, N> FormatEvent<S, N> for JournalFormat
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.format.format_event(context, writer, event)
    }
}

/// The syslog priority (RFC 5424, section 6.2.1) of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map_or_else(|| "unknown place".to_owned(), ToString::to_string);
    let thread = std::thread::current();
    tracing::error!(place, thread = thread.name().unwrap_or("unnamed"), "panic, this is a bug");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter_text: &str, body: impl FnOnce()) -> String {
        let captured = Captured::default();
        let output = captured.clone();
        let subscriber =
            subscriber(JournalFormat::new(), filter(filter_text).unwrap(), false, move || output.clone());
        tracing::subscriber::with_default(subscriber, body);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn journal_lines_have_a_priority_and_no_time() {
        let text = logged("trace", || {
            tracing::error!(node = "n1", "gone");
            tracing::debug!("chosen");
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("<3>") && lines[0].contains("gone node=\"n1\""), "{text}");
        assert!(lines[1].starts_with("<7>"), "{text}");
        assert!(!text.contains("T0") && !text.contains("ERROR"), "{text}");
    }

    #[test]
    fn a_bare_level_is_ours_and_libraries_are_quiet() {
        let body = || {
            tracing::debug!("ours");
            tracing::info!(target: "h2", "library chatter");
            tracing::warn!(target: "h2", "library warning");
        };
        let text = logged("debug", body);
        assert!(text.contains("ours") && text.contains("library warning"), "{text}");
        assert!(!text.contains("chatter"), "{text}");
        let text = logged("error", body);
        assert!(text.is_empty(), "{text}");
        let text = logged("off,h2=info", body);
        assert!(text.contains("chatter") && !text.contains("ours"), "{text}");
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let error = filter("coracle=loud").unwrap_err();
        assert!(error.to_string().contains("coracle=loud"), "{error}");
    }
}
