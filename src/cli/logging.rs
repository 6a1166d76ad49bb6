//! Where log lines go: to stderr, for people with the time, for the systemd journal with a priority instead.

use std::fs::File;
use std::io::{self, LineWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use log::{Level, LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};

/// Our own modules; other crates speak only from `debug` on.
const OURS: &str = "pterodapter";

/// Sets the logger of the process. Without effect if there is one already.
pub fn init(level: LevelFilter) {
    let logger: Box<dyn Log> = if stderr_is_the_journal() {
        Box::new(JournalLogger { level, out: Mutex::new(io::stderr()) })
    } else {
        terminal_logger(level, LineWriter::new(io::stderr()))
    };
    if log::set_boxed_logger(logger).is_ok() {
        log::set_max_level(level);
    }
}

/// Says why the program ends, whatever the log level is.
pub fn fatal(text: &str) {
    let prefix = if stderr_is_the_journal() { "<3>" } else { "pterodapter: " };
    // Nobody is left to tell that it cannot be said.
    let _ = writeln!(io::stderr(), "{prefix}{text}");
}

/// Plain lines without colour: time (UTC), level, message.
fn terminal_logger<W: Write + Send + 'static>(level: LevelFilter, out: W) -> Box<WriteLogger<W>> {
    let mut config = ConfigBuilder::new();
    config.set_time_format_rfc3339();
    config.set_thread_level(LevelFilter::Off);
    config.set_target_level(LevelFilter::Debug);
    config.set_location_level(LevelFilter::Off);
    if level <= LevelFilter::Info {
        config.add_filter_allow_str(OURS);
    }
    WriteLogger::new(level, config.build(), out)
}

/// systemd names device and inode of the journal's stream in `JOURNAL_STREAM`; a stderr that was redirected since
/// has others.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    stderr_id().is_ok_and(|id| id == stream)
}

fn stderr_id() -> io::Result<String> {
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?).metadata()?;
    Ok(format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Lines for the journal: `<priority>message` (sd-daemon(3)).
struct JournalLogger<W> {
    level: LevelFilter,
    out: Mutex<W>,
}

impl<W: Write + Send> Log for JournalLogger<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
            && (self.level > LevelFilter::Info || metadata.target().split("::").next() == Some(OURS))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let priority = match record.level() {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        // One priority per line of output; one write per message, so that threads do not mix their lines.
        let lines: String =
            record.args().to_string().lines().map(|line| format!("<{priority}>{line}\n")).collect();
        if let Ok(mut out) = self.out.lock() {
            // Nobody is left to tell that the log cannot be written.
            let _ = out.write_all(lines.as_bytes());
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn say(logger: &dyn Log, level: Level, target: &str, text: &str) {
        logger.log(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        let sink = Sink::default();
        let logger = JournalLogger { level: LevelFilter::Info, out: Mutex::new(sink.clone()) };
        say(&logger, Level::Error, "pterodapter::engine", "one\ntwo");
        say(&logger, Level::Warn, "pterodapter", "three");
        say(&logger, Level::Info, "pterodapter::cli", "four");
        say(&logger, Level::Debug, "pterodapter", "too quiet");
        say(&logger, Level::Error, "rustls", "not ours");
        assert_eq!(sink.text(), "<3>one\n<3>two\n<4>three\n<6>four\n");
    }

    #[test]
    fn a_terminal_gets_time_level_and_message_without_colour() {
        let sink = Sink::default();
        let logger = terminal_logger(LevelFilter::Info, sink.clone());
        say(&*logger, Level::Info, "pterodapter::engine", "hello");
        say(&*logger, Level::Error, "rustls", "not ours");
        let text = sink.text();
        assert!(text.ends_with("Z [INFO] hello\n"), "{text:?}");
        assert!(!text.contains('\u{1b}') && text.lines().count() == 1, "{text:?}");
    }
}
