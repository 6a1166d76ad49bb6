//! The configuration file: the long options of the command line, without their dashes, as TOML keys.
//!
//! It knows no option by name. What clap knows of an option decides whether a key exists and which type it takes,
//! and what the file says is put in front of what was typed; from there on there is one way.

use std::any::TypeId;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU16;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::de::{DeTable, DeValue};

/// Read where no file is named, if it exists.
pub const DEFAULT: &str = "/etc/pterodapter/pterodapter.toml";
/// The option that names the file; it cannot stand in the file itself.
const OPTION: &str = "config";
/// A configuration file is not larger than this.
const MAX_FILE: u64 = 1 << 20;

/// Why a configuration file will not do, and where.
#[derive(Debug)]
pub struct Error {
    path: PathBuf,
    /// From 1.
    line: Option<usize>,
    text: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.text)
    }
}

impl std::error::Error for Error {}

/// Puts the options of the configuration file into `argv` (its first element is the program's name), except those
/// that were typed. Commands with options of their own read no file.
///
/// # Errors
/// What the file says that `definition` does not allow.
pub fn merge(definition: &Command, mut argv: Vec<OsString>) -> Result<Vec<OsString>, Error> {
    if argv.len() < 2 {
        return Ok(argv);
    }
    // Only what was typed matters here: faults, and calls for help, are for the real parser.
    let Ok(typed) = definition.clone().ignore_errors(true).try_get_matches_from(&argv) else {
        return Ok(argv);
    };
    if typed.subcommand_name().is_some() {
        return Ok(argv);
    }
    let Some(path) = named(&typed).or_else(|| Some(PathBuf::from(DEFAULT)).filter(|path| path.exists()))
    else {
        return Ok(argv);
    };
    let text = read(&path).map_err(|why| Error {
        path: path.clone(),
        line: None,
        text: format!("cannot read the configuration: {why}"),
    })?;
    let options = Source { definition, path: &path, text: &text }.options(&typed)?;
    argv.splice(1..1, options);
    Ok(argv)
}

fn named(typed: &ArgMatches) -> Option<PathBuf> {
    typed.try_get_one::<PathBuf>(OPTION).ok().flatten().cloned()
}

fn was_typed(typed: &ArgMatches, arg: &Arg) -> bool {
    typed.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(text)
}

/// A configuration file and what may stand in it.
struct Source<'a> {
    definition: &'a Command,
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    /// The options that the file has and that were not typed, each as one word of a command line.
    fn options(&self, typed: &ArgMatches) -> Result<Vec<OsString>, Error> {
        let table = DeTable::parse(self.text).map_err(|error| {
            self.error(error.span().unwrap_or_default(), error.message().replace('\n', "; "))
        })?;
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut options = Vec::new();
        for (key, value) in entries {
            let arg = self.find(key.get_ref()).ok_or_else(|| {
                self.error(key.span(), format!("unknown key '{}'{}", key.get_ref(), self.hint(key.get_ref())))
            })?;
            let words = self
                .words(arg, key.get_ref(), value.get_ref())
                .map_err(|text| self.error(value.span(), text))?;
            if !was_typed(typed, arg) {
                options.extend(words);
            }
        }
        Ok(options)
    }

    fn find(&self, key: &str) -> Option<&Arg> {
        self.definition.get_arguments().find(|arg| arg.get_long() == Some(key) && key != OPTION)
    }

    /// The key that was probably meant: clap's guess for an option of that name.
    fn hint(&self, key: &str) -> String {
        let error = self.definition.clone().try_get_matches_from(["", &format!("--{key}")]).err();
        match error.as_ref().and_then(|error| error.get(ContextKind::SuggestedArg)) {
            Some(ContextValue::String(option)) if option != "--config" => {
                format!("; did you mean '{}'?", option.trim_start_matches('-'))
            }
            _ => "; keys are the long options of 'pterodapter --help'".to_owned(),
        }
    }

    /// What stands for `key = value` on a command line.
    fn words(&self, arg: &Arg, key: &str, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
        match (arg.get_action(), value) {
            (ArgAction::SetTrue, DeValue::Boolean(false)) => Ok(Vec::new()),
            (ArgAction::SetTrue, DeValue::Boolean(true)) => Ok(vec![format!("--{key}").into()]),
            (ArgAction::SetTrue, _) => Err(format!("'{key}' is true or false")),
            (ArgAction::Append, DeValue::Array(items)) => {
                items.iter().map(|item| self.word(arg, key, item.get_ref())).collect()
            }
            // One of them needs no brackets.
            (ArgAction::Append, DeValue::String(_)) => self.word(arg, key, value).map(|word| vec![word]),
            (ArgAction::Append, _) => Err(format!("'{key}' is a list: {key} = [{}]", example(arg))),
            _ => self.word(arg, key, value).map(|word| vec![word]),
        }
    }

    /// One value as the command line would have it, and clap would take it.
    fn word(&self, arg: &Arg, key: &str, value: &DeValue<'_>) -> Result<OsString, String> {
        let kind = Kind::of(arg);
        let text = match (kind, value) {
            (Kind::File | Kind::Text | Kind::Other, DeValue::String(text)) => text.to_string(),
            (Kind::Number | Kind::Other, DeValue::Integer(number)) if number.radix() == 10 => {
                number.to_string()
            }
            (Kind::Number, _) => return Err(format!("'{key}' is a number, without quotes")),
            _ => return Err(format!("'{key}' is a text: {key} = {}", example(arg))),
        };
        let value = match self.path.parent() {
            // So that the file and what it names can be moved together.
            Some(dir) if kind == Kind::File && is_file_name(&text) => dir.join(text).into_os_string(),
            _ => text.into(),
        };
        let mut word = OsString::from(format!("--{key}="));
        word.push(value);
        match self.definition.clone().try_get_matches_from([OsString::new(), word.clone()]) {
            Err(error) if matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) => {
                let report = error.to_string();
                let fault = report.split("\n\n").next().unwrap_or_default();
                Err(fault.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" "))
            }
            _ => Ok(word),
        }
    }

    fn error(&self, place: Range<usize>, text: String) -> Error {
        let before = self.text.as_bytes().iter().take(place.start);
        let line = 1 + before.filter(|&&octet| octet == b'\n').count();
        Error { path: self.path.to_owned(), line: Some(line), text }
    }
}

/// What an option's value is in TOML.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    /// The name of a file, relative to the directory of ours.
    File,
    /// A text or a number: clap's parser decides.
    Other,
}

impl Kind {
    fn of(arg: &Arg) -> Self {
        let id = arg.get_value_parser().type_id();
        let numbers = [
            TypeId::of::<NonZeroU16>(),
            TypeId::of::<u8>(),
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
        ];
        if numbers.iter().any(|number| id == *number) {
            Self::Number
        } else if value_name(arg) == Some("FILE") {
            Self::File
        } else if id == TypeId::of::<String>() || id == TypeId::of::<OsString>() {
            Self::Text
        } else {
            Self::Other
        }
    }
}

/// Options of files take a few words for something else.
fn is_file_name(text: &str) -> bool {
    !text.is_empty() && !["-", "none"].contains(&text) && !text.starts_with("credential:")
}

fn value_name(arg: &Arg) -> Option<&str> {
    arg.get_value_names()?.first().map(|name| name.as_str())
}

fn example(arg: &Arg) -> String {
    match Kind::of(arg) {
        Kind::Number => "1".to_owned(),
        _ => format!("\"{}\"", value_name(arg).unwrap_or("...")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::args::{self, Ikev2Args};
    use super::*;

    /// A command line with a configuration file of this content.
    fn merged(text: &str, typed: &[&str]) -> Result<Vec<OsString>, String> {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("conf.toml");
        fs::write(&path, text).unwrap();
        let config = format!("--config={}", path.display());
        let argv = ["pterodapter", &config].iter().chain(typed).map(OsString::from).collect();
        let here = format!("{}/", dir.path().display());
        merge(&args::definition(), argv)
            .map(|argv| {
                argv.iter().map(|word| word.to_str().unwrap().replace(&here, "DIR/").into()).collect()
            })
            .map_err(|error| error.to_string().replace(&here, ""))
    }

    fn parsed(text: &str, typed: &[&str]) -> Ikev2Args {
        match args::parse(merged(text, typed).unwrap()).unwrap().command {
            args::Command::Ikev2(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    const WHOLE: &str = r#"
# every kind of value
destination = "gw.example:4443"
cacert = "ca.pem"
cert = "/abs/server.pem"
key = "server.key"
username = "alice"
password-file = "-"
listen-ip = ["192.0.2.1", "2001:db8::1"]
ike-port = 5500
workers = 0
gateway-routes = true
log-level = "debug"
"#;

    #[test]
    fn a_file_says_what_options_say() {
        let args = parsed(WHOLE, &["ikev2"]);
        assert_eq!((args.destination.host.as_str(), args.destination.port), ("gw.example", 4443));
        assert_eq!((args.cacert, args.cert), ("DIR/ca.pem".into(), vec!["/abs/server.pem".into()]));
        assert_eq!(args.key, [args::Source::File("DIR/server.key".into())]);
        assert_eq!((args.ike_port.get(), args.nat_port.get(), args.workers), (5500, 4500, Some(0)));
        assert_eq!(args.uplink.password_file, Some(args::Source::Stdin));
        assert!(args.gateway_routes && args.listen_ip.len() == 2);
        let level = args::parse(merged(WHOLE, &["ikev2"]).unwrap()).unwrap().log_level;
        assert_eq!(level, log::LevelFilter::Debug);
    }

    #[test]
    fn what_is_repeatable_is_a_list_and_one_needs_no_brackets() {
        let text = WHOLE
            .replace("\"/abs/server.pem\"", "[\"/abs/server.pem\", \"rsa.pem\"]")
            .replace("\"server.key\"", "[\"server.key\", \"credential:rsa\"]");
        let args = parsed(&text.replace("[\"192.0.2.1\", \"2001:db8::1\"]", "\"::1\""), &["ikev2"]);
        assert_eq!(args.cert, [PathBuf::from("/abs/server.pem"), "DIR/rsa.pem".into()]);
        let keys = [args::Source::File("DIR/server.key".into()), args::Source::Credential("rsa".into())];
        assert_eq!((args.key, args.listen_ip.len()), (keys.to_vec(), 1));
    }

    #[test]
    fn words_in_place_of_a_file_stay_what_they_are() {
        let text = WHOLE.replace("\"server.key\"", "\"credential:key\"") + "control = \"none\"\n";
        let args = parsed(&text, &["ikev2"]);
        assert_eq!(args.key, [args::Source::Credential("key".into())]);
        assert_eq!(args.uplink.control, Some("none".into()));
    }

    #[test]
    fn what_was_typed_wins() {
        let args = parsed(WHOLE, &["--ike-port=1", "ikev2", "--listen-ip", "::1", "--key", "here"]);
        assert_eq!((args.ike_port.get(), args.key), (1, vec![args::Source::File("here".into())]));
        assert_eq!(args.listen_ip, [std::net::IpAddr::from(std::net::Ipv6Addr::LOCALHOST)]);
        assert!(!parsed(&WHOLE.replace("true", "false"), &["ikev2"]).gateway_routes);
    }

    #[test]
    fn what_will_not_do_is_named_with_its_line() {
        for (text, says) in [
            ("zzz = 1", "conf.toml:1: unknown key 'zzz'; keys are the long options"),
            ("\n\nlisten_ip = [\"::\"]", "conf.toml:3: unknown key 'listen_ip'; did you mean 'listen-ip'?"),
            ("password = \"secret\"", "1: unknown key 'password'; did you mean 'password-file'?"),
            ("config = \"other\"", "unknown key 'config'"),
            ("help = true", "unknown key 'help'"),
            ("COMMAND = \"ikev2\"", "unknown key 'COMMAND'"),
            ("[ikev2]\nkey = \"k\"", "1: unknown key 'ikev2'"),
            ("ike-port = \"500\"", "1: 'ike-port' is a number, without quotes"),
            ("ike-port = 70000", "1: invalid value '70000' for '--ike-port"),
            ("ike-port = 1.5", "'ike-port' is a number"),
            ("key = 5", "'key' is a list: key = [\"FILE\"]"),
            ("cacert = 5", "'cacert' is a text: cacert = \"FILE\""),
            ("key = \"\"", "1: "),
            ("destination = [\"a\"]", "'destination' is a text"),
            ("listen-ip = 5", "'listen-ip' is a list: listen-ip = [\"IP\"]"),
            ("listen-ip = [\"::\",\n  7]", "invalid value '7'"),
            ("gateway-routes = \"yes\"", "'gateway-routes' is true or false"),
            ("log-level = \"loud\"", "invalid value 'loud'"),
            ("key = \"a\"\nkey = \"b\"", "conf.toml:2: "),
            ("key = ", "conf.toml:1: "),
        ] {
            let error = merged(text, &["ikev2"]).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let missing = ["pterodapter", "--config", "/nowhere/x.toml", "ikev2"].map(OsString::from).to_vec();
        let error = merge(&args::definition(), missing).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/x.toml: cannot read the configuration: "), "{error}");
    }

    #[test]
    fn calls_for_help_and_other_commands_read_no_file() {
        for typed in [&["--help"][..], &["demo"]] {
            assert_eq!(merged("nonsense", typed).unwrap().len(), 2 + typed.len());
        }
        assert_eq!(merge(&args::definition(), vec!["pterodapter".into()]).unwrap().len(), 1);
    }
}
