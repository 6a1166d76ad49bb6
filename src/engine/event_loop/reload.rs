//! A configuration that was read again: asking for it, and taking it.

use super::{EventLoop, Phase};
use crate::base::Now;
use crate::engine::Split;
use crate::engine::control::Ticket;
use crate::engine::control::message::Reply;
use crate::engine::desk::Aids;
use crate::engine::ike_thread::Notice;
use crate::engine::reload::{NewSignIn, ReloadRequest, Reloading, Update};
use crate::fortivpn;

impl EventLoop {
    /// Passes requests on, and does what came of earlier ones.
    pub(super) fn serve_reloads(&mut self, now: Now) {
        while let Ok(message) = self.reloads.try_recv() {
            match message {
                Reloading::Asked => self.ask_for_reload(now, None),
                Reloading::Read(request, outcome) => {
                    self.handle_reload(now, &request, outcome.map(|update| *update));
                }
            }
        }
    }

    /// Over the control socket: the connection hears of the outcome.
    pub(super) fn reload_for(&mut self, now: Now, connection: usize) {
        let ticket = self.control.as_mut().and_then(|control| control.wait(connection));
        self.ask_for_reload(now, ticket);
    }

    fn ask_for_reload(&mut self, now: Now, asked_by: Option<Ticket>) {
        let request = ReloadRequest { asked_by };
        let refusal = match &self.reload {
            _ if !matches!(self.phase, Phase::Running) => "the daemon is about to end",
            None => "this daemon has no configuration to read again",
            Some(reload) => match reload.try_send(request) {
                Ok(()) => return self.manager.reloading(),
                Err(_) => "the configuration is being read already; try again",
            },
        };
        log::warn!("reload: {refusal}");
        self.answer_reload(now, asked_by, Reply::Refused { reason: refusal.to_owned() });
    }

    fn handle_reload(&mut self, now: Now, request: &ReloadRequest, outcome: Result<Update, String>) {
        let reply = match outcome {
            Ok(update) => {
                update.text.lines().for_each(|line| log::info!("reload: {line}"));
                update.warnings.iter().for_each(|warning| log::warn!("{warning}"));
                let warnings = update.warnings.iter().map(|warning| format!("\nwarning: {warning}"));
                let text = warnings.fold(update.text.clone(), |text, warning| text + &warning);
                self.apply(now, update);
                Reply::Done { text }
            }
            Err(reason) => {
                log::error!("reload: {reason} (nothing was changed)");
                Reply::Refused { reason }
            }
        };
        self.manager.ready();
        self.answer_reload(now, request.asked_by, reply);
    }

    /// Takes what can be taken while running. What is as it was has no effect.
    fn apply(&mut self, now: Now, update: Update) {
        let Update { identity, split, sign_in, way, text: _, warnings: _ } = update;
        self.ike.notice(Notice::Identity(Box::new(identity)));
        let dns64_suffixes = if self.split.nat64.is_some() { split.dns64_suffixes } else { Vec::new() };
        let split = Split { nat64: self.split.nat64, dns64_suffixes, ..split };
        if split != self.split {
            self.data.set_dns64(split.dns64());
            // The plan follows when what is new has been looked up.
            self.domains.set_names(now.mono, &split.tunnel_domains);
            self.split = split;
        }
        if let Some(NewSignIn { config, credentials_changed, aids, otp_changed }) = sign_in {
            let aids = Aids { otp: aids.otp, otp_command: aids.otp_command, login_hook: aids.login_hook };
            self.desk.set_aids(aids, otp_changed);
            let config = Box::new(config);
            self.uplink.handle(now, fortivpn::Input::Settings { config, credentials_changed });
        }
        if let Some(way) = way {
            self.uplink.set_way(way);
        }
    }

    fn answer_reload(&mut self, now: Now, asked_by: Option<Ticket>, reply: Reply) {
        if let (Some(ticket), Some(control)) = (asked_by, &mut self.control) {
            control.answer(now.mono, ticket, &reply);
        }
    }
}
