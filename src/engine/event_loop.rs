//! The event loop: owns everything that changes per packet, and all sockets.

mod captures;
mod reload;
mod requests;
mod start;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver as Channel, Sender};
use mio::{Events, Poll, Token};

use crate::base::Now;
use crate::fortivpn;
use crate::ike;

use super::capture::Captures;
use super::control::Control;
use super::control::message::{Command, Reply, SignInState};
use super::counters::add;
use super::datapath::DataPath;
use super::desk::{Desk, Refusal, Request, Submission};
use super::domains::Domains;
use super::helper::Helpers;
use super::ike_thread::{IkeThread, Notice, Report};
use super::network::NetworkWatch;
use super::page::{self, Listener, Page, Visit, Visitor};
use super::reload::{ReloadRequest, Reloading};
use super::service_manager::ServiceManager;
use super::state::State;
use super::status::{Sources, Status};
use super::udp::Receiver;
use super::uplink::{self, Uplink};
use super::worker::LoopWaker;
use super::{Clock, Counters, Pool, Split, plan};

pub use start::{Handle, StartError, Stopper, Submitter, start, start_under, try_ports};

const WAKER: Token = Token(0);
const UPLINK: Token = Token(1);
const NETWORK: Token = Token(UPLINK.0 + uplink::TOKENS);
const FIRST_UDP: usize = 16;
const FIRST_CONTROL: usize = 512;
const FIRST_PAGE: usize = 1024;

/// Receives from one socket in one turn: an upload must not starve a download, timers or IKE.
const RECEIVES_PER_TURN: usize = 4;
/// Flows and sequence numbers are looked after at this interval.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Drops are summed up in the log at most this often.
const SUMMARY: Duration = Duration::from_secs(60);
/// Shutdown: time for peers to answer our Deletes.
const DELETE_TIME: Duration = Duration::from_secs(2);
/// Shutdown: time for Terminate, close_notify and logout.
const LOGOUT_TIME: Duration = Duration::from_secs(3);

/// Where the daemon is in its life.
#[derive(Debug)]
enum Phase {
    Running,
    DeletingClients {
        until: Duration,
    },
    LeavingGateway {
        until: Duration,
    },
    Done,
    /// The system does not let us go on.
    Failed,
}

struct EventLoop {
    poll: Poll,
    clock: Clock,
    waker: Arc<LoopWaker>,
    stop: Arc<AtomicBool>,
    data: DataPath,
    uplink: Uplink,
    network: NetworkWatch,
    ike: IkeThread,
    listener: Listener,
    page: Page,
    /// `/metrics` is served.
    metrics: bool,
    desk: Desk,
    helpers: Helpers,
    captures: Captures,
    control: Option<Control>,
    console: Option<Sender<Option<Request>>>,
    submissions: Channel<Submission>,
    /// To who can read the configuration again, and back.
    reload: Option<Sender<ReloadRequest>>,
    reloads: Channel<Reloading>,
    state: State,
    /// Its copy for other threads.
    shown: Arc<Mutex<State>>,
    split: Split,
    /// Addresses of the tunnel domains.
    domains: Domains,
    pool: Pool,
    counters: Arc<Counters>,
    manager: ServiceManager,
    /// Nobody signed in in time: a device that connects is a person who may do it now.
    browser_missed: bool,
    phase: Phase,
    housekeeping: Duration,
    /// When drops were last summed up, and how many there were.
    summary: (Duration, BTreeMap<String, u64>),
}

impl EventLoop {
    /// Serves until the end. True if that was an orderly one.
    fn run(mut self) -> bool {
        let mut events = Events::with_capacity(256);
        let mut receiver = Receiver::new();
        self.manager.ready();
        self.uplink.handle(self.clock.now(), fortivpn::Input::Start);
        self.serve_uplink(self.clock.now());
        self.tell_plan();
        while !matches!(self.phase, Phase::Done | Phase::Failed) {
            self.wait(&mut events);
            let now = self.clock.now();
            for event in &events {
                self.handle_event(now, event);
            }
            self.turn(now, &mut receiver);
        }
        self.summarise_drops(self.clock.now());
        self.helpers.stop();
        self.captures.stop();
        matches!(self.phase, Phase::Done)
    }

    /// Sleeps until something happens. The queues are looked at once more after announcing the sleep.
    fn wait(&mut self, events: &mut Events) {
        self.waker.about_to_sleep();
        let now = self.clock.now().mono;
        let timeout = if self.has_work() {
            Some(Duration::ZERO)
        } else {
            self.poll_timeout().map(|at| at.saturating_sub(now))
        };
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            log::error!("poll: {error}");
            self.phase = Phase::Failed;
        }
        self.waker.awake();
    }

    fn has_work(&self) -> bool {
        self.data.has_work()
            || (self.uplink.is_readable() && !self.data.is_congested())
            || self.uplink.has_work()
            || self.ike.has_report()
            || !self.submissions.is_empty()
            || !self.reloads.is_empty()
            || self.helpers.has_code()
            || self.captures.has_ended()
            || (matches!(self.phase, Phase::Running) && self.stop.load(Ordering::SeqCst))
    }

    fn poll_timeout(&self) -> Option<Duration> {
        let phase = match self.phase {
            Phase::DeletingClients { until } | Phase::LeavingGateway { until } => Some(until),
            Phase::Running | Phase::Done | Phase::Failed => None,
        };
        let housekeeping = self.data.needs_housekeeping().then_some(self.housekeeping + HOUSEKEEPING);
        let parts = [self.data.poll_timeout(), self.uplink.poll_timeout(), self.domains.poll_timeout()];
        let parts = parts.into_iter().chain([self.network.poll_timeout()]);
        let control = self.control.as_ref().and_then(Control::poll_timeout);
        let page = self.listener.poll_timeout();
        let others = [phase, page, control, housekeeping, self.manager.poll_timeout()];
        parts.chain(others).flatten().min()
    }

    fn handle_event(&mut self, now: Now, event: &mio::event::Event) {
        match event.token() {
            WAKER => {}
            NETWORK => self.network.handle_event(now.mono),
            token if (UPLINK..NETWORK).contains(&token) => self.uplink.handle_event(event),
            Token(token) if (FIRST_PAGE..FIRST_PAGE + page::TOKENS).contains(&token) => {
                self.handle_page(now, token);
            }
            Token(token) if token >= FIRST_CONTROL => {
                if let Some(control) = &mut self.control {
                    control.handle_event(now.mono, token, self.poll.registry());
                }
                self.serve_control(now);
            }
            Token(token) => {
                if let Some(udp) = self.data.udp.get_mut(token.saturating_sub(FIRST_UDP)) {
                    udp.readable = true;
                }
            }
        }
    }

    /// One turn: bounded work of every kind, then everything collected leaves.
    fn turn(&mut self, now: Now, receiver: &mut Receiver) {
        add(&self.counters.turns, 1);
        for socket in 0..self.data.udp.len() {
            for _ in 0..RECEIVES_PER_TURN {
                if self.data.is_congested()
                    || !self.data.receive(now, socket, receiver, &mut self.uplink, &mut self.ike)
                {
                    break;
                }
            }
        }
        self.data.finish_jobs(now, &mut self.uplink, &self.ike);
        if self.data.has_lost_a_worker() && !matches!(self.phase, Phase::Failed) {
            log::error!("a worker thread has ended: the packets of its devices would go nowhere");
            self.phase = Phase::Failed;
        }
        if !self.data.is_congested() {
            let data = &mut self.data;
            self.uplink.read(now, &mut |packet| data.handle_inbound(now, packet));
        }
        self.handle_timers(now);
        while let Ok(submission) = self.submissions.try_recv() {
            self.submit_and_log(now, submission);
        }
        self.serve_reloads(now);
        while let Some((question, code)) = self.helpers.poll_code() {
            self.desk.handle_code(now, question, code);
            self.serve_desk(now);
        }
        self.serve_visits(now);
        self.serve_captures();
        self.serve_ike(now);
        self.serve_uplink(now);
        self.serve_domains(now);
        self.data.route_own(now, &mut self.uplink);
        self.data.flush_down(now);
        self.uplink.flush();
        self.advance_shutdown(now);
        self.manager.handle_turn(now.mono);
    }

    fn handle_timers(&mut self, now: Now) {
        self.data.handle_timeout(now);
        self.uplink.handle_timeout(now);
        if self.network.poll_change(now.mono) {
            log::debug!("the network of this host has changed");
            self.uplink.handle(now, fortivpn::Input::NetworkChanged);
        }
        if self.uplink.poll_keepalive(now) {
            self.data.host.ping_server();
        }
        self.listener.handle_timeout(now.mono);
        if let Some(control) = &mut self.control {
            control.handle_timeout(now.mono);
        }
        if now.mono >= self.housekeeping + HOUSEKEEPING {
            self.housekeeping = now.mono;
            self.data.expire_flows(now);
            self.data.report_exhaustion(&self.ike);
        }
        if now.mono >= self.summary.0 + SUMMARY {
            self.summarise_drops(now);
        }
    }

    /// One line about what was dropped since the last one: strangers can cause drops, but no more lines.
    fn summarise_drops(&mut self, now: Now) {
        let drops = self.counters.snapshot().drops;
        let more = |(name, count): (&String, &u64)| {
            let before = self.summary.1.get(name).copied().unwrap_or(0);
            (*count > before).then(|| format!("{name} {}", count - before))
        };
        let new: Vec<String> = drops.iter().filter_map(more).collect();
        if !new.is_empty() {
            log::info!("packets dropped since the last such line: {}", new.join(", "));
        }
        self.summary = (now.mono, drops);
    }

    fn serve_ike(&mut self, now: Now) {
        while let Some(report) = self.ike.poll_report() {
            match report {
                Report::Output(output) => self.handle_ike(now, output),
                // For whoever asks how we are.
                Report::Stats(_) => {}
                Report::Ended => {
                    log::error!("the IKE thread has ended: nobody could connect any more");
                    self.phase = Phase::Failed;
                }
                Report::Idle => {
                    if let Phase::DeletingClients { until } = &mut self.phase {
                        *until = now.mono;
                    }
                }
            }
        }
    }

    fn handle_ike(&mut self, now: Now, output: ike::Output) {
        if self.state.handle_ike(now, &output) {
            self.show_state();
            self.renew_tap();
        }
        self.data.table.handle_ike(now, &output);
        match output {
            ike::Output::Send { path, bytes } => self.data.send_ike(&path, &bytes),
            ike::Output::Install(child) => match self.data.install(&child, now.mono) {
                Ok(()) => self.ike.notice(Notice::Installed(child.spi_in)),
                Err(error) => log::error!("cannot install a Child SA: {error}"),
            },
            ike::Output::Remove { spi_in } => self.data.remove(spi_in),
            ike::Output::UseOutbound { spi_in } => self.data.table.use_outbound(spi_in),
            ike::Output::Moved { device, identity, path } => {
                log::info!("{identity} is at {} now", path.remote);
                self.data.moved(device, path);
            }
            ike::Output::Connected { identity, system, address, path, suite, .. } => {
                self.manager.device_came();
                let system = system.map(|system| format!(" ({system})")).unwrap_or_default();
                log::info!("{identity} connected from {}{system}, has {address}, {suite}", path.remote);
                if std::mem::take(&mut self.browser_missed) {
                    self.uplink.handle(now, fortivpn::Input::Retry);
                }
            }
            ike::Output::Gone { device, identity, why } => {
                self.captures.handle_gone(device);
                self.manager.device_left();
                log::info!("{identity} is gone: {why}");
            }
            ike::Output::Note(event) => log::info!("{event}"),
            // The table has taken them.
            ike::Output::Heard { .. } | ike::Output::IkeRekeyed { .. } => {}
        }
    }

    fn serve_uplink(&mut self, now: Now) {
        while let Some(output) = self.uplink.poll(now, self.poll.registry()) {
            if self.state.handle_uplink(now, &output) {
                self.show_state();
            }
            self.manager.uplink(self.state.uplink.describe());
            let ends = self.uplink.session_ends();
            self.state.session_ends = ends.map(|ends| now.wall + ends.saturating_sub(now.boot));
            self.desk.handle_output(now, &output);
            self.serve_desk(now);
            match output {
                fortivpn::Output::Up(config) => {
                    let dns: Vec<String> = config.dns.iter().map(ToString::to_string).collect();
                    log::info!("the tunnel is up: address {}, DNS {}", config.address, dns.join(" "));
                    self.data.uplink_up(config.address, config.mtu, &config.dns);
                    self.domains.handle_up(now.mono);
                    self.tell_plan();
                }
                fortivpn::Output::Down(reason) => {
                    let stopped = matches!(reason, fortivpn::DownReason::Stopped);
                    let level = if stopped { log::Level::Info } else { log::Level::Warn };
                    log::log!(level, "the tunnel is down: {reason}");
                    self.data.uplink_down();
                    self.domains.handle_down();
                }
                fortivpn::Output::Failed(error) => {
                    log::error!("{error}");
                    self.browser_missed = matches!(error, fortivpn::Error::SignInTimeout);
                }
                fortivpn::Output::Note(event) => log::info!("{event}"),
                fortivpn::Output::Stopped => {
                    if let Phase::LeavingGateway { .. } = self.phase {
                        self.phase = Phase::Done;
                    }
                }
                // The desk and `Uplink::poll` do these.
                fortivpn::Output::LoginNeeded { .. }
                | fortivpn::Output::Ask(_)
                | fortivpn::Output::LoginDone
                | fortivpn::Output::Connect
                | fortivpn::Output::Disconnect { .. }
                | fortivpn::Output::Write(_) => {}
            }
        }
    }

    fn show_state(&self) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.state);
    }

    /// A person brought something for the session.
    fn submit(&mut self, now: Now, submission: Submission) -> Result<(), Refusal> {
        self.desk.submit(submission)?;
        self.serve_desk(now);
        Ok(())
    }

    /// The same, where nobody waits for the answer.
    fn submit_and_log(&mut self, now: Now, submission: Submission) {
        if let Err(refusal) = self.submit(now, submission) {
            log::warn!("sign in: {refusal}");
        }
    }

    /// The same, where a program waits for it.
    fn submit_and_reply(&mut self, now: Now, submission: Submission) -> Reply {
        match self.submit(now, submission) {
            Ok(()) => Reply::Accepted,
            Err(refusal) => Reply::Refused { reason: refusal.to_string() },
        }
    }

    /// Hands on what the desk has for the session, for programs and for people.
    fn serve_desk(&mut self, now: Now) {
        if self.desk.poll_change() {
            self.announce_request();
        }
        while let Some(input) = self.desk.poll_input() {
            if self.state.handle_input(now, &input) {
                self.show_state();
            }
            self.uplink.handle(now, input);
        }
        while let Some(program) = self.desk.poll_program() {
            self.helpers.run(program);
        }
        self.tell_control(now);
    }

    /// A browser on this host.
    fn handle_page(&mut self, now: Now, token: usize) {
        let Self { listener, page, desk, state, poll, data, uplink, ike, counters, .. } = self;
        let status = |desk: &Desk| Status::new(&Sources { now, state, desk, data, uplink, ike, counters });
        let metrics = self.metrics.then_some(&status as &dyn Fn(&Desk) -> Status);
        let visit = Visit { now, state, visitor: Visitor::Local, metrics };
        let mut answer = |bytes: &[u8]| page.answer(bytes, &visit, desk);
        listener.handle_event(now.mono, token, poll.registry(), &mut answer);
        self.serve_desk(now);
    }

    /// Browsers of devices, at the in-tunnel host.
    fn serve_visits(&mut self, now: Now) {
        while let Some(request) = self.data.host.poll_visit() {
            let visitor = Visitor::Device(self.pool.device(request.from));
            let visit = Visit { now, state: &self.state, visitor, metrics: None };
            if let Some(response) = self.page.answer(&request.bytes, &visit, &mut self.desk) {
                self.data.host.answer_visit(now, request.number, response);
            }
            self.serve_desk(now);
        }
    }

    /// Does what came over the control socket.
    fn serve_control(&mut self, now: Now) {
        while let Some((connection, command)) = self.control.as_mut().and_then(Control::poll_command) {
            let reply = match command {
                Command::Login => {
                    if let Some(control) = &mut self.control {
                        control.watch(connection);
                    }
                    self.tell_control(now);
                    continue;
                }
                Command::Paste { text } => self.submit_and_reply(now, Submission::Pasted(text)),
                Command::Answer { question, text } => {
                    self.submit_and_reply(now, Submission::Typed { question, text })
                }
                Command::Retry => self.submit_and_reply(now, Submission::Retry),
                Command::Status => Reply::Status(Box::new(self.status(now))),
                Command::Disconnect { device } => self.disconnect(&device),
                Command::Reload => {
                    self.reload_for(now, connection);
                    continue;
                }
                Command::Capture { device } => {
                    self.capture_for(now, connection, device.as_deref());
                    continue;
                }
            };
            if let Some(control) = &mut self.control {
                control.reply(now.mono, connection, &reply);
            }
        }
    }

    /// Tells who watches how the sign-in is.
    fn tell_control(&mut self, now: Now) {
        if let Some(control) = self.control.as_mut().filter(|control| control.is_watched()) {
            control.tell(now.mono, &SignInState::new(now, &self.state, self.desk.request()));
        }
    }

    /// Tells everyone who can do something about it what a person has to do now.
    fn announce_request(&mut self) {
        let request = self.desk.request().cloned();
        if let Some(request) = &request {
            log::warn!("sign in: {request}");
        }
        if let Some(console) = &self.console {
            // Nobody may be listening any more.
            let _ = console.try_send(request);
        }
    }

    /// Tells the IKE core what clients get. It does nothing where that is what they have.
    fn tell_plan(&self) {
        let (tunnel, addresses) = (self.state.tunnel.as_ref(), self.domains.addresses());
        self.ike.notice(Notice::Plan(plan::client_plan(&self.split, self.pool.host(), tunnel, &addresses)));
    }

    /// Keeps the addresses of the tunnel domains, and the plan with them, up to date.
    fn serve_domains(&mut self, now: Now) {
        while let Some(name) = self.domains.poll_query(now.mono) {
            self.data.host.resolve(now, name);
        }
        while let Some(resolved) = self.data.host.poll_resolved() {
            if self.domains.handle_resolved(now.mono, &resolved) {
                log::info!("{resolved}");
            }
        }
        if self.domains.poll_change(now.mono) {
            self.tell_plan();
        }
    }

    fn advance_shutdown(&mut self, now: Now) {
        match self.phase {
            Phase::Running if self.stop.load(Ordering::SeqCst) => {
                self.manager.stopping();
                self.ike.notice(Notice::Shutdown);
                self.phase = Phase::DeletingClients { until: now.mono + DELETE_TIME };
            }
            Phase::DeletingClients { until } if until <= now.mono => {
                self.uplink.handle(now, fortivpn::Input::Stop);
                self.phase = Phase::LeavingGateway { until: now.mono + LOGOUT_TIME };
                self.serve_uplink(now);
            }
            Phase::LeavingGateway { until } if until <= now.mono => self.phase = Phase::Done,
            _ => {}
        }
    }
}
