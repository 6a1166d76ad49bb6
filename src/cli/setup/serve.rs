//! `setup device --serve`: a profile for a telephone, by a link that works once. A small web server of its own, for a few
//! minutes: one thread for each visitor, so that a slow one keeps nobody waiting.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::base::Random;
use crate::crypto::{Secret, SystemRandom};
use crate::engine::Clock;
use crate::engine::page::request::{self, Fault, MAX_REQUEST, Method};

use super::super::Failure;

/// How long a link works.
pub const OFFER: Duration = Duration::from_secs(600);
/// Visitors at a time; more are turned away.
const GUESTS: usize = 32;
/// A visitor has so long for its request, and again for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the end and the time are looked at.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// What is offered.
pub struct Offer {
    /// The file's name: letters, digits and `-_.@`.
    pub file: String,
    /// Its media type, by which the telephone knows what to do with it.
    pub media_type: &'static str,
    /// What the page says, step by step.
    pub steps: &'static [&'static str],
    /// The file.
    pub content: Secret,
}

/// The web server, before anybody was told of it.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
}

impl Server {
    /// Listens at `listen`, or at this host's address towards the default route.
    pub fn bind(listen: Option<SocketAddr>) -> Result<Self, Failure> {
        let at = match listen {
            Some(address) => address,
            None => SocketAddr::new(own_address()?, 0),
        };
        let failed = |why: io::Error| {
            Failure::Runtime(format!("--listen {at}: {why}; choose another address or port"))
        };
        let listener = TcpListener::bind(at).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let mut address = listener.local_addr().map_err(failed)?;
        if address.ip().is_unspecified() {
            address.set_ip(own_address()?);
        }
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random);
        Ok(Self { listener, address, token: format!("{:032x}", u128::from_be_bytes(random)) })
    }

    /// What the person opens.
    pub fn link(&self) -> String {
        format!("http://{}/{}", self.address, self.token)
    }

    /// The port to open in a firewall.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Serves until the file was fetched once, or for `limit`. `progress` hears how much time is left. True where it was
    /// fetched.
    pub fn serve(
        &self,
        offer: Offer,
        limit: Duration,
        mut progress: impl FnMut(Duration),
    ) -> Result<bool, Failure> {
        let clock = Clock::start();
        let stand = Arc::new(Stand::new(&self.token, offer, clock));
        let failed = |why: io::Error| Failure::Runtime(format!("cannot wait for the download: {why}"));
        let end = clock.now().mono + limit;
        loop {
            if stand.fetched.load(Ordering::Acquire) {
                return Ok(true);
            }
            let left = end.saturating_sub(clock.now().mono);
            if left.is_zero() {
                return Ok(false);
            }
            progress(left);
            match poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&TICK)) {
                Err(rustix::io::Errno::INTR) | Ok(0) => continue,
                Err(why) => return Err(failed(why.into())),
                Ok(_) => {}
            }
            match self.listener.accept() {
                Ok((stream, _)) => Stand::receive(&stand, stream).map_err(failed)?,
                // Gone already, or there are no descriptors just now.
                Err(_) => continue,
            }
        }
    }
}

/// This host's address towards the default route. Nothing is sent for it.
fn own_address() -> Result<IpAddr, Failure> {
    // Addresses for documents: they are nobody's, so the default route leads there.
    let towards = |any: IpAddr, far: IpAddr| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((far, 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    let v4 = || towards(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into());
    let v6 = || towards(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    v4().or_else(v6).ok_or_else(|| {
        Failure::Runtime(
            "this host has no default route: give the address that the device reaches, --listen IP:PORT"
                .to_owned(),
        )
    })
}

/// What the visitors' threads share.
struct Stand {
    page_path: String,
    file_path: String,
    page: String,
    offer: Offer,
    clock: Clock,
    guests: AtomicUsize,
    /// Someone is fetching the file.
    taken: AtomicBool,
    /// Someone has fetched it.
    fetched: AtomicBool,
}

/// The head of a response, and its body.
struct Response<'a> {
    status: &'static str,
    media_type: &'static str,
    body: &'a [u8],
}

impl Stand {
    fn new(token: &str, offer: Offer, clock: Clock) -> Self {
        let (page_path, file_path) = (format!("/{token}"), format!("/{token}/{}", offer.file));
        Self {
            page: page(&file_path, &offer),
            page_path,
            file_path,
            offer,
            clock,
            guests: AtomicUsize::new(0),
            taken: AtomicBool::new(false),
            fetched: AtomicBool::new(false),
        }
    }

    /// Gives a visitor a thread, if there are not too many.
    fn receive(stand: &Arc<Self>, stream: TcpStream) -> io::Result<()> {
        if stand.guests.fetch_add(1, Ordering::Relaxed) >= GUESTS {
            stand.guests.fetch_sub(1, Ordering::Relaxed);
            return Ok(());
        }
        let stand = Arc::clone(stand);
        let attend = move || {
            // A visitor that does not keep to the rules gets no answer, and that is all.
            let _ = stand.attend(stream);
            stand.guests.fetch_sub(1, Ordering::Relaxed);
        };
        thread::Builder::new().name("visitor".to_owned()).spawn(attend).map(drop)
    }

    fn attend(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        let mut bytes = vec![0; MAX_REQUEST];
        let mut len = 0;
        let end = self.clock.now().mono + PATIENCE;
        loop {
            match request::parse(bytes.get(..len).unwrap_or_default()) {
                Ok(Some(request)) => {
                    let head_only = request.method == Method::Head;
                    if !matches!(request.method, Method::Get | Method::Head) {
                        return self.send(stream, &plain("405 Method Not Allowed", "GET only\n"), false);
                    }
                    let path = request.decoded_path();
                    return if path == self.file_path.as_bytes() {
                        self.hand_over(stream, head_only)
                    } else if path.strip_suffix(b"/").unwrap_or(&path) == self.page_path.as_bytes() {
                        let (status, media_type) = ("200 OK", "text/html; charset=utf-8");
                        self.send(
                            stream,
                            &Response { status, media_type, body: self.page.as_bytes() },
                            head_only,
                        )
                    } else {
                        self.send(stream, &plain("404 Not Found", "nothing is here\n"), head_only)
                    };
                }
                Ok(None) => {}
                Err(Fault::Malformed) => {
                    return self.send(stream, &plain("400 Bad Request", "what?\n"), false);
                }
                Err(Fault::HeadTooLong | Fault::BodyTooLong) => {
                    return self.send(stream, &plain("413 Content Too Large", "too much\n"), false);
                }
            }
            let left = end.checked_sub(self.clock.now().mono).filter(|left| !left.is_zero());
            stream.set_read_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
            match stream.read(bytes.get_mut(len..).unwrap_or_default())? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => len += count,
            }
        }
    }

    /// The file, to one visitor at a time; the offer ends when one has all of it.
    fn hand_over(&self, stream: TcpStream, head_only: bool) -> io::Result<()> {
        let file = Response {
            status: "200 OK",
            media_type: self.offer.media_type,
            body: self.offer.content.expose(),
        };
        if head_only {
            return self.send(stream, &file, true);
        }
        if self.taken.swap(true, Ordering::AcqRel) {
            return self.send(
                stream,
                &plain("503 Service Unavailable", "it is being fetched just now\n"),
                false,
            );
        }
        let sent = self.send(stream, &file, false);
        match &sent {
            Ok(()) => self.fetched.store(true, Ordering::Release),
            Err(_) => self.taken.store(false, Ordering::Release),
        }
        sent
    }

    /// Sends all of it, and waits until the other side has it: it closes then, or is slow to.
    fn send(&self, mut stream: TcpStream, response: &Response<'_>, head_only: bool) -> io::Result<()> {
        let Response { status, media_type, body } = response;
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nConnection: close\r\n\
             Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n\
             Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\r\n\r\n",
            body.len()
        );
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(head.as_bytes())?;
        if !head_only {
            stream.write_all(body)?;
        }
        stream.shutdown(Shutdown::Write)?;
        let end = self.clock.now().mono + PATIENCE;
        let mut rest = [0; 1024];
        loop {
            let left = end.saturating_sub(self.clock.now().mono);
            if left.is_zero() {
                return Ok(());
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut rest) {
                Ok(0) => return Ok(()),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(why) => return Err(why),
                Ok(_) => {}
            }
        }
    }
}

fn plain(status: &'static str, text: &'static str) -> Response<'static> {
    Response { status, media_type: "text/plain; charset=utf-8", body: text.as_bytes() }
}

/// What a telephone shows: no script, nothing from elsewhere, and no password. A preview of the link fetches only this.
fn page(file_path: &str, offer: &Offer) -> String {
    let steps: String = offer.steps.iter().map(|step| format!("<li>{step}</li>\n")).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>VPN profile</title>\n\
         <style>body {{ font: 1.1em sans-serif; max-width: 32em; margin: 2em auto; padding: 0 1em }} \
         a {{ display: block; padding: 1em; border: 2px solid; border-radius: .5em; text-align: center }} \
         li {{ margin: .7em 0 }}</style>\n</head>\n<body>\n<h1>VPN profile</h1>\n\
         <p><a href=\"{file_path}\">Download {}</a></p>\n<ol>\n{steps}</ol>\n\
         <p>It can be downloaded once. The password stands in the terminal where this offer was made.</p>\n\
         </body>\n</html>\n",
        offer.file
    )
}

#[cfg(test)]
mod tests;
