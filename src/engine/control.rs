//! The control socket: a Unix socket over which `pterodapter login` helps the daemon to sign in, and other commands
//! look at it and steer it. Who may use it is a matter of the file's mode.

pub mod message;

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use zeroize::Zeroizing;

use message::{Command, Reply, SignInState};

/// Connections at a time.
const CONNECTIONS: usize = 8;
/// A line may have so many octets.
const MAX_LINE: usize = 64 << 10;
/// So many octets may wait to be taken: the status of a pool full of devices.
const MAX_WAITING: usize = 4 << 20;
/// Octets of one `read`.
const READ: usize = 4096;
/// A line, a first command, and the taking of an answer may each last so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no control socket.
#[derive(Debug)]
pub enum OpenError {
    /// Another daemon listens there.
    InUse(PathBuf),
    /// Something else has this name.
    NotASocket(PathBuf),
    /// The system does not let us.
    System(PathBuf, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(
                f,
                "control socket {}: another pterodapter uses it; end that one, or give this one a socket of its own \
                 with --control FILE, or none with --control none",
                path.display()
            ),
            Self::NotASocket(path) => {
                write!(f, "control socket {}: there is a file of this name; take another", path.display())
            }
            Self::System(path, error) => write!(f, "control socket {}: {error}", path.display()),
        }
    }
}

/// The socket and its connections.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    connections: [Option<Connection>; CONNECTIONS],
    first_token: usize,
    commands: VecDeque<(usize, Command)>,
    next_ticket: u64,
}

/// An answer that comes later: whom it is for, even if somebody else has the connection's place by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Somebody who is connected.
#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    input: Zeroizing<Vec<u8>>,
    output: VecDeque<u8>,
    deadline: Option<Duration>,
    /// The state that it knows; `None` where it does not want to.
    watches: Option<Option<SignInState>>,
    /// An answer will come.
    waits: Option<Ticket>,
}

impl Control {
    /// Listens at `path`, in the place of a socket that nobody serves any more. Makes the directory where there is none.
    pub fn open(path: &Path, first_token: usize, registry: &Registry) -> Result<Self, OpenError> {
        let failed = |error| OpenError::System(path.to_owned(), error);
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        }
        remove_stale(path)?;
        let mut listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed)?;
        registry.register(&mut listener, Token(first_token), Interest::READABLE).map_err(failed)?;
        let connections = Default::default();
        let (path, commands) = (path.to_owned(), VecDeque::new());
        Ok(Self { listener, path, connections, first_token, commands, next_ticket: 0 })
    }

    /// An event for `token`.
    pub fn handle_event(&mut self, now: Duration, token: usize, registry: &Registry) {
        match token.checked_sub(self.first_token) {
            None => {}
            Some(0) => self.accept(now, registry),
            Some(index) => {
                let index = index - 1;
                let mut commands = VecDeque::new();
                self.attend(index, |connection| {
                    connection.read(|command| commands.push_back((index, command)))?;
                    connection.write()?;
                    connection.look_at_clock(now);
                    Some(())
                });
                self.commands.append(&mut commands);
            }
        }
    }

    /// When `handle_timeout` has something to do.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.connections.iter().flatten().filter_map(|connection| connection.deadline).min()
    }

    /// Ends connections that took too long.
    pub fn handle_timeout(&mut self, now: Duration) {
        for place in &mut self.connections {
            place.take_if(|connection| connection.deadline.is_some_and(|deadline| deadline <= now));
        }
    }

    /// The next command, with the connection that it came from.
    pub fn poll_command(&mut self) -> Option<(usize, Command)> {
        self.commands.pop_front()
    }

    /// Answers a command.
    pub fn reply(&mut self, now: Duration, connection: usize, reply: &Reply) {
        self.attend(connection, |connection| {
            connection.say(reply)?;
            connection.look_at_clock(now);
            Some(())
        });
    }

    /// The answer takes its time. `None` where nobody is connected any more.
    pub fn wait(&mut self, connection: usize) -> Option<Ticket> {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let connection = self.connections.get_mut(connection)?.as_mut()?;
        (connection.waits, connection.deadline) = (Some(ticket), None);
        Some(ticket)
    }

    /// Answers the command that waits for it; who has gone is not looked for.
    pub fn answer(&mut self, now: Duration, ticket: Ticket, reply: &Reply) {
        let waits = |place: &Option<Connection>| place.as_ref().is_some_and(|c| c.waits == Some(ticket));
        let Some(index) = self.connections.iter().position(waits) else { return };
        self.attend(index, |connection| {
            connection.waits = None;
            connection.say(reply)?;
            connection.look_at_clock(now);
            Some(())
        });
    }

    /// From now on the connection hears of every change.
    pub fn watch(&mut self, connection: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(connection) {
            connection.watches.get_or_insert(None);
        }
    }

    /// Lets a connection go, to whoever serves it from now on, with what it was told and has not yet taken.
    pub fn take(&mut self, connection: usize, registry: &Registry) -> Option<(Probe, Vec<u8>)> {
        let mut taken = self.connections.get_mut(connection)?.take()?;
        self.commands.retain(|(from, _)| *from != connection);
        registry.deregister(&mut taken.stream).ok()?;
        Some((taken.stream.into(), taken.output.into()))
    }

    /// True if somebody wants to hear of changes.
    pub fn is_watched(&self) -> bool {
        self.connections.iter().flatten().any(|connection| connection.watches.is_some())
    }

    /// Tells those who watch, if it is new to them.
    pub fn tell(&mut self, now: Duration, state: &SignInState) {
        for index in 0..CONNECTIONS {
            self.attend(index, |connection| {
                match &mut connection.watches {
                    Some(known) if known.as_ref() != Some(state) => *known = Some(state.clone()),
                    _ => return Some(()),
                }
                connection.say(&Reply::SignIn(state.clone()))?;
                connection.look_at_clock(now);
                Some(())
            });
        }
    }

    fn accept(&mut self, now: Duration, registry: &Registry) {
        // Ends at WouldBlock; any other error concerns one connection that is gone already.
        while let Ok((mut stream, _)) = self.listener.accept() {
            let Some(index) = self.connections.iter().position(Option::is_none) else { continue };
            let token = Token(self.first_token + 1 + index);
            if registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_err() {
                continue;
            }
            let connection = Connection {
                stream,
                // Never grows, so that no secret is left behind in a smaller one.
                input: Zeroizing::new(Vec::with_capacity(MAX_LINE + READ)),
                output: VecDeque::new(),
                deadline: Some(now + PATIENCE),
                watches: None,
                waits: None,
            };
            if let Some(place) = self.connections.get_mut(index) {
                *place = Some(connection);
            }
            self.commands.retain(|(from, _)| *from != index);
        }
    }

    /// Does something with a connection, and closes it where that gives `None`.
    fn attend(&mut self, index: usize, work: impl FnOnce(&mut Connection) -> Option<()>) {
        let Some(place) = self.connections.get_mut(index) else { return };
        if place.as_mut().is_some_and(|connection| work(connection).is_none()) {
            *place = None;
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a socket that a daemon left behind when it was killed.
fn remove_stale(path: &Path) -> Result<(), OpenError> {
    let failed = |error| OpenError::System(path.to_owned(), error);
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(OpenError::NotASocket(path.to_owned()));
    }
    match Probe::connect(path) {
        Ok(_) => Err(OpenError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

impl Connection {
    /// Reads what there is. `None` where the connection is of no use any more.
    fn read(&mut self, mut take: impl FnMut(Command)) -> Option<()> {
        let mut piece = Zeroizing::new([0; READ]);
        // More than this at a time is nobody who signs in.
        for _ in 0..2 * MAX_LINE / READ {
            match self.stream.read(&mut *piece) {
                Ok(0) => return None,
                Ok(length) => self.input.extend_from_slice(piece.get(..length)?),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
            while let Some(end) = self.input.iter().position(|&byte| byte == b'\n') {
                let command = serde_json::from_slice(self.input.get(..end)?);
                let left = self.input.len() - end - 1;
                self.input.copy_within(end + 1.., 0);
                self.input.truncate(left);
                match command {
                    Ok(command) => take(command),
                    Err(_) => self.say(&Reply::Refused {
                        reason: "this is no command that this version of pterodapter knows".to_owned(),
                    })?,
                }
            }
            if self.input.len() > MAX_LINE {
                return None;
            }
        }
        None
    }

    fn say(&mut self, reply: &Reply) -> Option<()> {
        self.output.extend(serde_json::to_vec(reply).ok()?);
        self.output.push_back(b'\n');
        self.write()?;
        (self.output.len() <= MAX_WAITING).then_some(())
    }

    fn write(&mut self) -> Option<()> {
        while !self.output.is_empty() {
            match self.stream.write(self.output.as_slices().0) {
                Ok(0) => return None,
                Ok(length) => drop(self.output.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(())
    }

    /// Who watches or waits may do so for as long as it takes, but must not leave a line half done.
    fn look_at_clock(&mut self, now: Duration) {
        let is_patient = self.watches.is_some() || self.waits.is_some();
        let is_idle = is_patient && self.input.is_empty() && self.output.is_empty();
        self.deadline = if is_idle { None } else { self.deadline.or(Some(now + PATIENCE)) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use mio::{Events, Poll};
    use tempfile::TempDir;

    use super::*;
    use crate::engine::state::Uplink;

    struct Lab {
        directory: TempDir,
        poll: Poll,
        control: Control,
    }

    impl Lab {
        fn new() -> Self {
            let (directory, poll) = (TempDir::new().unwrap(), Poll::new().unwrap());
            let control = Control::open(&directory.path().join("run/socket"), 100, poll.registry()).unwrap();
            Self { directory, poll, control }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("run/socket")
        }

        fn connect(&mut self) -> BufReader<Probe> {
            let stream = Probe::connect(self.path()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            self.turn(Duration::ZERO);
            BufReader::new(stream)
        }

        fn turn(&mut self, now: Duration) {
            let mut events = Events::with_capacity(64);
            self.poll.poll(&mut events, Some(Duration::from_millis(50))).unwrap();
            for event in &events {
                self.control.handle_event(now, event.token().0, self.poll.registry());
            }
        }

        fn command(&mut self) -> Option<(usize, String)> {
            let (connection, command) = self.control.poll_command()?;
            Some((connection, format!("{command:?}")))
        }

        fn open(&self) -> usize {
            self.control.connections.iter().flatten().count()
        }
    }

    fn state(uplink: Uplink) -> SignInState {
        SignInState { uplink, address: None, wanted: None, error: None }
    }

    fn line(client: &mut BufReader<Probe>) -> String {
        let mut line = String::new();
        client.read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn commands_come_as_lines_and_are_answered() {
        let mut lab = Lab::new();
        assert_eq!(fs::metadata(lab.path()).unwrap().permissions().mode() & 0o777, 0o660);
        let directory = lab.path().parent().unwrap().to_owned();
        assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
        let mut client = lab.connect();
        client.get_mut().write_all(b"{\"command\":\"login\"}\n{\"command\":").unwrap();
        lab.turn(Duration::ZERO);
        assert_eq!(lab.command(), Some((0, "Login".to_owned())));
        assert_eq!(lab.command(), None);
        client.get_mut().write_all(b"\"paste\",\"text\":\"x\"}\nnonsense\n").unwrap();
        lab.turn(Duration::ZERO);
        assert_eq!(lab.command(), Some((0, "Paste { text: [redacted] }".to_owned())));
        assert!(line(&mut client).starts_with(r#"{"reply":"refused","reason":"this is no command"#));
        lab.control.reply(Duration::ZERO, 0, &Reply::Accepted);
        assert_eq!(line(&mut client), "{\"reply\":\"accepted\"}\n");
    }

    #[test]
    fn who_watches_hears_of_changes_once() {
        let mut lab = Lab::new();
        let (mut watcher, mut other) = (lab.connect(), lab.connect());
        lab.control.watch(0);
        for uplink in [Uplink::Waiting, Uplink::Waiting, Uplink::Up] {
            lab.control.tell(Duration::ZERO, &state(uplink));
        }
        lab.control.reply(Duration::ZERO, 1, &Reply::Accepted);
        assert!(line(&mut watcher).contains("waiting") && line(&mut watcher).contains("up"));
        assert!(line(&mut other).contains("accepted"));
        lab.control.handle_timeout(PATIENCE);
        assert_eq!((lab.open(), line(&mut other)), (1, String::new()), "only who watches may be silent");
        assert_eq!(lab.control.poll_timeout(), None);
        watcher.get_mut().write_all(b"{").unwrap();
        lab.turn(PATIENCE);
        lab.control.handle_timeout(2 * PATIENCE);
        assert_eq!(lab.open(), 0, "half a line");
    }

    #[test]
    fn a_connection_can_be_taken_with_what_it_was_told() {
        let mut lab = Lab::new();
        let mut client = lab.connect();
        client.get_mut().write_all(b"{\"command\":\"capture\"}\n{\"command\":\"login\"}\n").unwrap();
        lab.turn(Duration::ZERO);
        assert_eq!(lab.command(), Some((0, "Capture { device: None }".to_owned())));
        lab.control.reply(Duration::ZERO, 0, &Reply::Accepted);
        let (mut taken, told) = lab.control.take(0, lab.poll.registry()).unwrap();
        assert_eq!((lab.open(), lab.command(), told), (0, None, Vec::new()));
        assert!(lab.control.take(0, lab.poll.registry()).is_none());
        taken.write_all(b"anything\n").unwrap();
        drop(taken);
        let told = [(); 3].map(|()| line(&mut client));
        assert_eq!(told, ["{\"reply\":\"accepted\"}\n", "anything\n", ""]);
        // The place is free again.
        lab.connect().get_mut().write_all(b"{\"command\":\"login\"}\n").unwrap();
        lab.turn(Duration::ZERO);
        assert_eq!(lab.command(), Some((0, "Login".to_owned())));
    }

    #[test]
    fn connections_and_lines_are_bounded() {
        let mut lab = Lab::new();
        let mut clients: Vec<_> = (0..=CONNECTIONS).map(|_| lab.connect()).collect();
        assert_eq!((lab.open(), line(&mut clients[CONNECTIONS])), (CONNECTIONS, String::new()));
        clients.truncate(1);
        lab.turn(Duration::ZERO);
        assert_eq!(lab.open(), 1);
        let big = vec![b'x'; MAX_LINE + 1];
        clients[0].get_mut().set_nonblocking(true).unwrap();
        let mut sent = 0;
        for _ in 0..100 {
            sent += clients[0].get_mut().write(&big[sent..]).unwrap_or(0);
            lab.turn(Duration::ZERO);
        }
        assert_eq!((sent > MAX_LINE - READ, lab.open()), (true, 0));
        let sleeper = lab.connect();
        let many = Reply::Refused { reason: "x".repeat(MAX_WAITING / 4) };
        for _ in 0..100 {
            lab.control.reply(Duration::ZERO, 0, &many);
        }
        assert_eq!(lab.open(), 0, "who takes no answers gets none");
        drop(sleeper);
    }

    #[test]
    fn a_left_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let lab = Lab::new();
        let path = lab.path();
        let open = || Control::open(&path, 200, lab.poll.registry());
        assert!(matches!(open(), Err(OpenError::InUse(_))));
        let Lab { directory: _kept, poll, control } = lab;
        drop(control);
        assert!(!path.exists(), "removed at the end");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Control::open(&path, 200, poll.registry()).unwrap());
        fs::write(&path, "important").unwrap();
        let refused = Control::open(&path, 200, poll.registry()).unwrap_err();
        assert!(refused.to_string().contains("there is a file of this name"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"important");
    }
}
