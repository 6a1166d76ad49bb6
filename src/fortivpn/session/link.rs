//! The tunnel on its connection: opened, fed by PPP, up.

use super::{Output, Session, State, Step, TUNNEL};
use crate::base::Now;
use crate::fortivpn::config::TunnelConfig;
use crate::fortivpn::cookie::SESSION as SESSION_COOKIE;
use crate::fortivpn::event::Event;
use crate::fortivpn::session::recovery::End;
use crate::fortivpn::tunnel::Tunnel;
use crate::ppp::{self, Link, Settings};
use crate::wire::forti::{DATA_HEADER_LEN, emit_header};

impl Session {
    pub(super) fn open_tunnel(&mut self, now: Now, reused: bool) {
        let Some(config) = &self.tunnel_config else {
            return self.perform(now, Step::Config);
        };
        let settings =
            Settings { mru: self.config.mru, address: config.address, ask_dns: config.dns.is_empty() };
        if let Some(drop) = self.drop.as_mut().filter(|_| !self.fresh) {
            drop.tried();
        }
        let cookie = self.jar.session().cloned().map(|value| (SESSION_COOKIE, value));
        self.write_request(TUNNEL, cookie.as_ref(), None);
        let tunnel = Box::new(Tunnel::new(Link::new(settings, now, &mut *self.rng)));
        self.state = State::Tunnel { tunnel, reused };
        self.flush_link(now);
    }

    /// Sends what the link wants to send, and acts on its events.
    pub(super) fn flush_link(&mut self, now: Now) {
        while let State::Tunnel { tunnel, .. } = &mut self.state {
            let mut frames = Vec::new();
            while let Some((protocol, payload)) = tunnel.link.poll_packet() {
                let mut header = [0; DATA_HEADER_LEN];
                emit_header(&mut header, protocol, payload.len());
                frames.extend(header);
                frames.extend(payload);
            }
            let event = tunnel.link.poll_event();
            if !frames.is_empty() {
                self.outputs.push_back(Output::Write(frames));
            }
            match event {
                None => return,
                Some(ppp::Event::Renegotiating) => {}
                Some(ppp::Event::Closed(why)) => self.tunnel_ended(now, End::Link(why)),
                Some(ppp::Event::Opened { address, peer, dns, mtu }) => {
                    let Some(config) = &mut self.tunnel_config else { return };
                    let before = config.clone();
                    if config.address != address {
                        self.outputs.push_back(Output::Note(Event::AddressAdopted));
                    }
                    (config.address, config.peer, config.mtu) = (address, peer, mtu);
                    if !dns.is_empty() {
                        config.dns = dns;
                    }
                    let config = config.clone();
                    self.came_up(now, &before, config);
                }
            }
        }
    }

    fn came_up(&mut self, now: Now, before: &TunnelConfig, config: TunnelConfig) {
        if self.up_since.is_none() {
            self.up_since = Some(now.mono);
            self.stats.ups += 1;
            self.sign_in.succeeded();
            self.fresh = false;
            self.tunnel_error = None;
            self.cookie_failures = 0;
            self.drop = None;
        } else if *before == config {
            return;
        }
        self.outputs.push_back(Output::Up(config));
    }
}
