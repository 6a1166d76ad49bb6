//! The behaviour now, and what goes with it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::ServerConfig;

use super::certificate::ServerCertificate;
use super::scenario::{Fault, Handshake, Scenario};
use super::tls;

/// A scenario in use: what was made of it, and what it has counted.
pub(super) struct Live {
    pub scenario: Scenario,
    pub tls: Result<Arc<ServerConfig>, String>,
    pub tls_after_login: Result<Arc<ServerConfig>, String>,
    failed_handshakes: AtomicU32,
    /// How often each fault has been looked at.
    faults: Vec<AtomicU32>,
}

impl Live {
    /// Keeps the TLS of `before` when nothing about it changes, so that its tickets stay good.
    pub fn new(scenario: Scenario, certificate: &ServerCertificate, before: Option<&Self>) -> Self {
        let same = |before: &&Self| {
            before.scenario.tls == scenario.tls && before.scenario.tls12_only == scenario.tls12_only
        };
        let (tls, tls_after_login) = match before.filter(same) {
            Some(before) => (before.tls.clone(), before.tls_after_login.clone()),
            None => {
                let knobs = &scenario.tls;
                let make = |certificate| tls::server_config(knobs, scenario.tls12_only, certificate);
                let first = make(knobs.certificate.as_ref().unwrap_or(certificate));
                let later = knobs.certificate_after_login.as_ref().map_or_else(|| first.clone(), make);
                (first, later)
            }
        };
        let faults = scenario.faults.iter().map(|_| AtomicU32::new(0)).collect();
        Self { scenario, tls, tls_after_login, failed_handshakes: AtomicU32::new(0), faults }
    }

    /// The faults of the next answer to `path`.
    pub fn next_faults(&self, path: &str) -> Vec<&Fault> {
        let of_path = self.scenario.faults.iter().zip(&self.faults);
        let of_path = of_path.filter(|(fault, _)| fault.path == path || fault.path == "*");
        let due = of_path.filter(|(fault, count)| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            number >= fault.after && fault.times.is_none_or(|times| number - fault.after < times)
        });
        due.map(|(fault, _)| &fault.fault).collect()
    }

    /// What is to be done with the next handshake.
    pub fn next_handshake(&self) -> Handshake {
        let knobs = &self.scenario.tls;
        let usual = knobs.handshake == Handshake::Usual
            || knobs
                .handshake_times
                .is_some_and(|times| self.failed_handshakes.fetch_add(1, Ordering::Relaxed) >= times);
        if usual { Handshake::Usual } else { knobs.handshake }
    }
}

impl Deref for Live {
    type Target = Scenario;

    fn deref(&self) -> &Scenario {
        &self.scenario
    }
}
