//! Where log lines go: to stderr, for people with the time, for the systemd journal with a priority instead; and beside
//! that to a file.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, LineWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Style};
use log::{Level, LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};

use crate::engine::Clock;

use super::terminal;

/// Our own modules; other crates speak only from `debug` on.
const OURS: &str = "pterodapter";

/// The logger of the process.
static LOGGER: OnceLock<Logger> = OnceLock::new();
/// The file of `--log-file`.
static FILE: Mutex<Option<File>> = Mutex::new(None);

/// Sets the logger of the process. Without effect if there is one already.
///
/// # Errors
/// The file cannot be opened; the text is for people.
pub fn init(level: LevelFilter, file: Option<&Path>) -> Result<(), String> {
    set_file(file)?;
    let stderr: Box<dyn Log> = if stderr_is_the_journal() {
        Box::new(JournalLogger { out: Mutex::new(io::stderr()) })
    } else if io::stderr().is_terminal() {
        let is_coloured = terminal::is_coloured(&io::stderr());
        Box::new(TerminalLogger { out: Mutex::new(io::stderr()), clock: Clock::start(), is_coloured })
    } else {
        plain_logger(LineWriter::new(io::stderr()))
    };
    let logger = LOGGER.get_or_init(|| Logger { stderr, file: plain_logger(LineWriter::new(LogFile)) });
    if log::set_logger(logger).is_ok() {
        set_level(level);
    }
    Ok(())
}

/// How much to log from now on.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

/// Opens the file, also where it is the one that is open: it may have been moved away meanwhile.
///
/// # Errors
/// It cannot be opened; the text is for people. Then everything stays as it is.
pub fn set_file(path: Option<&Path>) -> Result<(), String> {
    let opened = path.map(open).transpose()?;
    *FILE.lock().unwrap_or_else(PoisonError::into_inner) = opened;
    Ok(())
}

/// Whether `set_file` would do; leaves nothing behind.
///
/// # Errors
/// It cannot be opened; the text is for people.
pub fn try_file(path: &Path) -> Result<(), String> {
    let is_new = !path.exists();
    open(path)?;
    if is_new {
        // Then it stays, empty.
        let _ = fs::remove_file(path);
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, String> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    opened.map_err(|why| format!("--log-file: cannot open {}: {why}", path.display()))
}

/// Says why the program ends, whatever the log level is.
pub fn fatal(text: &str) {
    let prefix = if stderr_is_the_journal() { "<3>" } else { "pterodapter: " };
    // Nobody is left to tell that it cannot be said.
    let _ = writeln!(io::stderr(), "{prefix}{text}");
    if let Some(logger) = LOGGER.get() {
        logger
            .file
            .log(&Record::builder().level(Level::Error).target(OURS).args(format_args!("{text}")).build());
    }
}

/// Everywhere that lines go.
struct Logger {
    stderr: Box<dyn Log>,
    file: Box<WriteLogger<LineWriter<LogFile>>>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_wanted(log::max_level(), metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.stderr.log(record);
            self.file.log(record);
        }
    }

    fn flush(&self) {}
}

fn is_wanted(most: LevelFilter, metadata: &Metadata<'_>) -> bool {
    let is_ours = metadata.target().split("::").next() == Some(OURS);
    metadata.level() <= most && (most > LevelFilter::Info || is_ours)
}

/// The file that is open at the moment. Whatever is wrong with it, a full disk for example, is no reason to end.
struct LogFile;

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *FILE.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines without colour: time (RFC 3339, UTC), level, message.
fn plain_logger<W: Write + Send + 'static>(out: W) -> Box<WriteLogger<W>> {
    let mut config = ConfigBuilder::new();
    config.set_time_format_rfc3339();
    config.set_thread_level(LevelFilter::Off);
    config.set_target_level(LevelFilter::Debug);
    config.set_location_level(LevelFilter::Off);
    WriteLogger::new(LevelFilter::Trace, config.build(), out)
}

/// systemd names device and inode of the journal's stream in `JOURNAL_STREAM`; a stderr that was redirected since
/// has others.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    stderr_id().is_ok_and(|id| id == stream)
}

fn stderr_id() -> io::Result<String> {
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?).metadata()?;
    Ok(format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Lines for a person at a terminal: the time of day (UTC), level, message.
struct TerminalLogger<W> {
    out: Mutex<W>,
    clock: Clock,
    is_coloured: bool,
}

impl<W: Write + Send> Log for TerminalLogger<W> {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let time = TimeOfDay(self.clock.now().wall);
        let style = if self.is_coloured { style(record.level()) } else { Style::new() };
        let level = record.level();
        let line = if level >= Level::Debug {
            format!("{time} {style}[{level}]{style:#} {}: {}\n", record.target(), record.args())
        } else {
            format!("{time} {style}[{level}]{style:#} {}\n", record.args())
        };
        write_whole(&self.out, &line);
    }

    fn flush(&self) {}
}

fn style(level: Level) -> Style {
    match level {
        Level::Error => AnsiColor::Red.on_default().bold(),
        Level::Warn => AnsiColor::Yellow.on_default(),
        Level::Info => AnsiColor::Green.on_default(),
        Level::Debug | Level::Trace => Style::new().dimmed(),
    }
}

/// `12:03:04Z`.
struct TimeOfDay(Duration);

impl std::fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        write!(f, "{:02}:{:02}:{:02}Z", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
    }
}

/// Lines for the journal: `<priority>message` (sd-daemon(3)).
struct JournalLogger<W> {
    out: Mutex<W>,
}

impl<W: Write + Send> Log for JournalLogger<W> {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let priority = match record.level() {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        // One priority per line of output.
        let lines: String =
            record.args().to_string().lines().map(|line| format!("<{priority}>{line}\n")).collect();
        write_whole(&self.out, &lines);
    }

    fn flush(&self) {}
}

/// One write per message, so that threads do not mix their lines.
fn write_whole<W: Write>(out: &Mutex<W>, lines: &str) {
    if let Ok(mut out) = out.lock() {
        // Nobody is left to tell that the log cannot be written.
        let _ = out.write_all(lines.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
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
    fn others_are_heard_from_debug_on() {
        let wanted =
            |most, level, target| is_wanted(most, &Metadata::builder().level(level).target(target).build());
        for (most, level, target, expected) in [
            (LevelFilter::Info, Level::Info, "pterodapter::cli", true),
            (LevelFilter::Info, Level::Debug, "pterodapter", false),
            (LevelFilter::Info, Level::Error, "rustls", false),
            (LevelFilter::Info, Level::Error, "pterodapter_not", false),
            (LevelFilter::Debug, Level::Debug, "rustls::client", true),
            (LevelFilter::Off, Level::Error, "pterodapter", false),
        ] {
            assert_eq!(wanted(most, level, target), expected, "{most} {level} {target}");
        }
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        let sink = Sink::default();
        let logger = JournalLogger { out: Mutex::new(sink.clone()) };
        say(&logger, Level::Error, "pterodapter::engine", "one\ntwo");
        say(&logger, Level::Warn, "pterodapter", "three");
        say(&logger, Level::Info, "pterodapter::cli", "four");
        assert_eq!(sink.text(), "<3>one\n<3>two\n<4>three\n<6>four\n");
    }

    #[test]
    fn a_terminal_gets_the_time_of_day_and_perhaps_colours() {
        for is_coloured in [false, true] {
            let sink = Sink::default();
            let (out, clock) = (Mutex::new(sink.clone()), Clock::start());
            let logger = TerminalLogger { out, clock, is_coloured };
            say(&logger, Level::Warn, "pterodapter::engine", "hello");
            say(&logger, Level::Debug, "pterodapter::engine", "details");
            let text = sink.text();
            assert_eq!(text.contains('\u{1b}'), is_coloured, "{text:?}");
            let plain = text.replace("\u{1b}[33m", "").replace("\u{1b}[2m", "").replace("\u{1b}[0m", "");
            let lines: Vec<&str> = plain.lines().map(|line| line.split_at("12:03:04".len()).1).collect();
            assert_eq!(lines, ["Z [WARN] hello", "Z [DEBUG] pterodapter::engine: details"], "{text:?}");
        }
        assert_eq!(TimeOfDay(Duration::from_secs(86_400 + 43_384)).to_string(), "12:03:04Z");
    }

    #[test]
    fn others_get_the_whole_time_and_no_colour() {
        let sink = Sink::default();
        say(&*plain_logger(sink.clone()), Level::Info, "pterodapter::engine", "hello");
        let text = sink.text();
        assert!(text.starts_with("20") && text.ends_with("Z [INFO] hello\n"), "{text:?}");
        assert!(!text.contains('\u{1b}') && text.lines().count() == 1, "{text:?}");
    }

    /// The only test that uses the file of the process.
    #[test]
    fn a_file_is_appended_to_and_can_be_moved_away() {
        let directory = tempfile::TempDir::new().unwrap();
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let logger = plain_logger(LineWriter::new(LogFile));
        let write = |text: &str| say(&*logger, Level::Info, OURS, text);
        let text = |path: &Path| fs::read_to_string(path).unwrap();
        write("nowhere");
        try_file(&path).unwrap();
        assert!(!path.exists(), "a trial leaves nothing behind");
        set_file(Some(&path)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        write("one");
        fs::rename(&path, &moved).unwrap();
        write("two");
        set_file(Some(&path)).unwrap();
        write("three");
        try_file(&path).unwrap();
        set_file(Some(&path)).unwrap();
        write("four");
        assert_eq!(text(&moved).matches("[INFO]").count(), 2);
        assert!(
            text(&path).lines().next().unwrap().ends_with("[INFO] three") && text(&path).contains("four")
        );
        assert!(set_file(Some(&directory.path().join("no/log"))).is_err());
        write("five");
        assert!(text(&path).contains("five"), "what is open stays open");
        // A full disk: nothing happens, and later lines arrive where there is room again.
        set_file(Some(Path::new("/dev/full"))).unwrap();
        (0..100).for_each(|_| write(&"x".repeat(100)));
        set_file(Some(&path)).unwrap();
        write("six");
        assert!(text(&path).ends_with("[INFO] six\n"), "{}", text(&path));
        set_file(None).unwrap();
    }
}
