//! `/metrics`: the status in the text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write as _};

use crate::base::Reason;
use crate::engine::state::Uplink;
use crate::engine::status::{DeviceStatus, Level, Status};

/// The type of the answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is.
#[derive(Clone, Copy)]
enum Type {
    Counter,
    Gauge,
}
use Type::{Counter, Gauge};

/// The answer.
pub fn emit(status: &Status) -> String {
    let mut text = Text(String::with_capacity(16 << 10));
    text.daemon(status);
    text.uplink(status);
    text.traffic(status);
    text.queues(status);
    text.ike(status);
    text.devices(&status.devices);
    text.0
}

/// A sample: its labels, and its value.
type Sample<'a> = (Vec<(&'a str, &'a str)>, f64);

/// The answer as it grows.
struct Text(String);

impl Text {
    fn daemon(&mut self, status: &Status) {
        let version = vec![("version", status.version.as_str())];
        self.family("build_info", Gauge, "Always 1; the version is a label.", [(version, 1.0)]);
        self.one("start_time_seconds", Gauge, "When the daemon started, since 1970.", status.started);
    }

    fn uplink(&mut self, status: &Status) {
        let uplink = &status.uplink;
        let states = Uplink::ALL
            .iter()
            .map(|(state, word)| (vec![("state", *word)], f64::from(u8::from(*state == uplink.state))));
        self.family("uplink_state", Gauge, "1 for the state that the uplink is in.", states);
        let help = "Since when the uplink is in its state, since 1970.";
        self.one("uplink_state_start_time_seconds", Gauge, help, uplink.since);
        let help = "1 while a person has to sign in or answer.";
        self.one("sign_in_wanted", Gauge, help, f64::from(u8::from(uplink.wanted.is_some())));
        if let Some(end) = uplink.session_ends {
            self.one(
                "uplink_session_end_time_seconds",
                Gauge,
                "When the gateway ends the session, since 1970.",
                end,
            );
        }
    }

    fn traffic(&mut self, status: &Status) {
        let counters = &status.counters;
        let both =
            |up, down| [(vec![("direction", "up")], number(up)), (vec![("direction", "down")], number(down))];
        let help = "Inner packets forwarded from devices (up) and to them (down).";
        self.family("packets_total", Counter, help, both(counters.up_packets, counters.down_packets));
        self.family("bytes_total", Counter, "Their octets.", both(counters.up_bytes, counters.down_bytes));
        let drops = Reason::ALL.iter().map(|reason| {
            let count = counters.drops.get(reason.name()).copied().unwrap_or(0);
            (vec![("reason", reason.name())], number(count))
        });
        self.family("dropped_packets_total", Counter, "Packets dropped, by reason.", drops);
        let jobs = [
            (vec![("place", "loop")], number(counters.jobs_inline)),
            (vec![("place", "worker")], number(counters.jobs_offloaded)),
        ];
        self.family("jobs_total", Counter, "Batches of packets sealed or opened, by place.", jobs);
        self.one("loop_turns_total", Counter, "Turns of the event loop.", number(counters.turns));
        let help = "Datagrams handed to the IKE thread.";
        self.one("ike_datagrams_total", Counter, help, number(counters.ike_datagrams));
    }

    fn queues(&mut self, status: &Status) {
        let queues = &status.queues;
        self.one("workers", Gauge, "Worker threads.", number(queues.workers as u64));
        let all = [
            ("worker_batches", "Batches of packets at the workers", queues.batches),
            (
                "uplink_queue_bytes",
                "Octets that the socket to the gateway has not taken",
                queues.uplink_octets,
            ),
            ("ike_queue_datagrams", "Datagrams that wait for the IKE thread", queues.ike_datagrams),
            ("dns_queries", "DNS queries that wait for an answer", queues.dns_queries),
            ("nat_flows", "NAT flows in use", queues.nat_flows),
        ];
        for (name, help, Level { used, limit }) in all {
            self.one(name, Gauge, &format!("{help}."), number(used as u64));
            let (base, unit) = name.strip_suffix("_bytes").map_or((name, ""), |base| (base, "_bytes"));
            self.one(
                &format!("{base}_limit{unit}"),
                Gauge,
                &format!("{help}, at most."),
                number(limit as u64),
            );
        }
    }

    fn ike(&mut self, status: &Status) {
        let ike = &status.ike;
        for (name, help, value) in [
            ("ike_half_open_sas", "IKE SAs of peers that are not authenticated yet.", ike.half_open),
            ("ike_sas", "IKE SAs, half-open and closing ones included.", ike.ike_sas),
            ("child_sas", "Child SAs.", ike.child_sas),
            ("devices", "Devices connected.", status.devices.len()),
        ] {
            self.one(name, Gauge, help, number(value as u64));
        }
        let refused = [
            ("malformed", ike.malformed),
            ("unknown_spi", ike.unknown_spi),
            ("bad_tag", ike.bad_tag),
            ("out_of_place", ike.out_of_place),
            ("no_room", ike.refused),
        ];
        let refused = refused.iter().map(|(reason, count)| (vec![("reason", *reason)], number(*count)));
        self.family(
            "ike_refused_messages_total",
            Counter,
            "IKE messages without effect, by reason.",
            refused,
        );
        for (name, help, value) in [
            ("ike_auth_failures_total", "Peers that were not let in.", ike.auth_failed),
            ("ike_cookies_total", "Cookies asked for.", ike.cookies),
            (
                "ike_answers_repeated_total",
                "Answers sent again, because the peer asked again.",
                ike.answered_again,
            ),
            ("ike_requests_repeated_total", "Requests of ours sent again.", ike.retransmitted),
            ("ike_plans_summarised_total", "Plans with more routes than clients take.", ike.summarised),
        ] {
            self.one(name, Counter, help, number(value));
        }
        let rekeys = [
            (vec![("sa", "child")], number(ike.child_rekeys)),
            (vec![("sa", "ike")], number(ike.ike_rekeys)),
        ];
        self.family("ike_rekeys_total", Counter, "SAs replaced, by kind.", rekeys);
    }

    fn devices(&mut self, devices: &[DeviceStatus]) {
        let numbers: Vec<String> = devices.iter().map(|device| device.id.to_string()).collect();
        let labels = |index: usize| -> Vec<(&str, &str)> {
            let number = numbers.get(index).map_or("", String::as_str);
            let identity = devices.get(index).map_or("", |device| device.identity.as_str());
            vec![("device", number), ("identity", identity)]
        };
        let info = devices.iter().enumerate().map(|(index, device)| {
            let mut labels = labels(index);
            labels.push(("system", device.system.as_deref().unwrap_or("unknown")));
            (labels, 1.0)
        });
        self.family("device_info", Gauge, "Always 1 for a connected device; its system is a label.", info);
        let mut each = |name, kind, help, value: &dyn Fn(&DeviceStatus) -> f64| {
            let samples = devices.iter().enumerate().map(|(index, device)| (labels(index), value(device)));
            self.family(name, kind, help, samples);
        };
        each("device_connect_time_seconds", Gauge, "When it connected, since 1970.", &|d| d.since.into());
        each("device_seen_time_seconds", Gauge, "When it was last heard, since 1970.", &|d| d.seen.into());
        each("device_child_sas", Gauge, "Its Child SAs.", &|d| number(d.child_sas as u64));
        each("device_child_rekeys_total", Counter, "Child SAs replaced.", &|d| number(d.child_rekeys));
        each("device_ike_rekeys_total", Counter, "IKE SAs replaced.", &|d| number(d.ike_rekeys));
        each("device_up_packets_total", Counter, "Inner packets from it.", &|d| number(d.up.packets));
        each("device_up_bytes_total", Counter, "Inner octets from it.", &|d| number(d.up.octets));
        each("device_down_packets_total", Counter, "Inner packets to it.", &|d| number(d.down.packets));
        each("device_down_bytes_total", Counter, "Inner octets to it.", &|d| number(d.down.octets));
    }

    fn one(&mut self, name: &str, kind: Type, help: &str, value: impl Into<f64>) {
        self.family(name, kind, help, [(Vec::new(), value.into())]);
    }

    /// A metric with all of its samples.
    fn family<'a>(
        &mut self,
        name: &str,
        kind: Type,
        help: &str,
        samples: impl IntoIterator<Item = Sample<'a>>,
    ) {
        let kind = match kind {
            Counter => "counter",
            Gauge => "gauge",
        };
        self.line(format_args!("# HELP pterodapter_{name} {help}"));
        self.line(format_args!("# TYPE pterodapter_{name} {kind}"));
        for (labels, value) in samples {
            let labels: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            if labels.is_empty() {
                self.line(format_args!("pterodapter_{name} {value}"));
            } else {
                self.line(format_args!("pterodapter_{name}{{{}}} {value}", labels.join(",")));
            }
        }
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// A value: exact up to 2^53.
fn number(value: u64) -> f64 {
    value as f64
}

/// A value of a label, as it stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_end_their_quotes() {
        let mut text = Text(String::new());
        text.family("x", Gauge, "A text.", [(vec![("identity", "a\\b\"} 7\n")], 0.5)]);
        assert_eq!(
            text.0,
            "# HELP pterodapter_x A text.\n# TYPE pterodapter_x gauge\npterodapter_x{identity=\"a\\\\b\\\"} 7\\n\"} 0.5\n"
        );
    }

    #[test]
    fn large_numbers_are_written_out() {
        let mut text = Text(String::new());
        text.one("x_total", Counter, "A text.", number(12_345_678_901_234));
        assert!(text.0.ends_with("\npterodapter_x_total 12345678901234\n"), "{}", text.0);
    }
}
