//! Why a connection ended, in words that a person understands.

use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage, OtherError, PeerIncompatible};

use super::trust::Untrusted;
use crate::fortivpn::CloseReason;

/// Why a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// The peer closed it, with or without close_notify.
    Eof,
    /// TCP reset, timeout or the like.
    Io(io::Error),
    /// TLS alert or a broken record.
    Tls {
        /// What rustls says.
        error: rustls::Error,
        /// Version and cipher suite were agreed on.
        agreed: bool,
    },
}

const NO_CIPHER: &str = "the gateway and this program have no cipher in common: the gateway's administrator must \
                         allow ECDHE with AES-GCM or ChaCha20 (FortiOS: `algorithm high`)";
const OLD_VERSION: &str = "the gateway offers nothing newer than TLS 1.1: its administrator must allow TLS 1.2 or \
                           1.3 (FortiOS: `ssl-max-proto-ver`)";
const NO_VERSION: &str = "the gateway accepts neither TLS 1.2 nor TLS 1.3: its administrator must allow one of them \
                          (FortiOS: `ssl-min-proto-ver`, `ssl-max-proto-ver`)";
const NO_TLS: &str = "what answers does not speak TLS: check host and port of the gateway";

impl Ended {
    /// For the session. `shown` tells whether we have a client certificate.
    pub fn close_reason(self, shown: bool) -> CloseReason {
        use rustls::Error as E;
        match self {
            Self::Eof => CloseReason::Eof,
            Self::Io(error) => io_reason(&error),
            Self::Tls { error: E::InvalidCertificate(error), .. } => CloseReason::Trust(match error {
                CertificateError::Other(OtherError(other)) if other.is::<Untrusted>() => other.to_string(),
                other => other.to_string(),
            }),
            Self::Tls { error: E::AlertReceived(alert), agreed } => alert_reason(alert, agreed, shown),
            Self::Tls { error, .. } => CloseReason::Tls(match error {
                E::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => OLD_VERSION.into(),
                E::InvalidMessage(InvalidMessage::InvalidContentType) => NO_TLS.into(),
                other => other.to_string(),
            }),
        }
    }
}

fn io_reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => CloseReason::Reset,
        io::ErrorKind::TimedOut => CloseReason::Timeout,
        _ => CloseReason::Refused(error.to_string()),
    }
}

/// A gateway that wants a client certificate says so with the alerts of RFC 8446 section 6.2, in TLS 1.3 after the
/// handshake. In TLS 1.2 it says `handshake_failure`, which means the ciphers only before they are agreed on.
fn alert_reason(alert: AlertDescription, agreed: bool, shown: bool) -> CloseReason {
    use AlertDescription as A;
    let about_certificate = match alert {
        A::CertificateRequired
        | A::NoCertificate
        | A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied => true,
        A::HandshakeFailure => agreed,
        _ => false,
    };
    if about_certificate && shown {
        let why = match alert {
            A::CertificateExpired => "it has expired",
            A::CertificateRevoked => "it was revoked",
            A::UnknownCA => "the gateway does not know its issuer",
            A::UnsupportedCertificate => "it is of a kind that the gateway does not support",
            _ => "ask the gateway's administrator which one it wants",
        };
        return CloseReason::ClientCertificate(format!("the gateway refused the one of --user-cert: {why}"));
    }
    if about_certificate {
        return CloseReason::ClientCertificate(
            "the gateway wants one: give it with --user-cert and --user-key".into(),
        );
    }
    CloseReason::Tls(match alert {
        A::HandshakeFailure | A::InsufficientSecurity => NO_CIPHER.into(),
        A::ProtocolVersion => NO_VERSION.into(),
        A::UnrecognisedName => "the gateway does not know the name that it was asked for: check --sni".into(),
        other => format!("the gateway sent the alert {other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(alert: AlertDescription, agreed: bool, shown: bool) -> CloseReason {
        Ended::Tls { error: rustls::Error::AlertReceived(alert), agreed }.close_reason(shown)
    }

    #[test]
    fn alerts_have_a_meaning() {
        use AlertDescription as A;
        for (description, agreed, shown, certificate, text) in [
            (A::CertificateRequired, true, false, true, "--user-cert and --user-key"),
            (A::HandshakeFailure, true, false, true, "--user-cert and --user-key"),
            (A::BadCertificate, true, true, true, "refused the one"),
            (A::CertificateExpired, true, true, true, "it has expired"),
            (A::HandshakeFailure, false, false, false, "no cipher in common"),
            (A::HandshakeFailure, false, true, false, "no cipher in common"),
            (A::ProtocolVersion, false, false, false, "neither TLS 1.2 nor TLS 1.3"),
            (A::InternalError, false, false, false, "InternalError"),
        ] {
            let reason = alert(description, agreed, shown);
            assert_eq!(matches!(reason, CloseReason::ClientCertificate(_)), certificate, "{reason}");
            assert!(reason.to_string().contains(text), "{reason}");
        }
    }

    #[test]
    fn other_ends_have_a_class() {
        let io = |kind| Ended::Io(io::Error::from(kind)).close_reason(false);
        assert_eq!(Ended::Eof.close_reason(false), CloseReason::Eof);
        assert_eq!(io(io::ErrorKind::ConnectionReset), CloseReason::Reset);
        assert_eq!(io(io::ErrorKind::TimedOut), CloseReason::Timeout);
        assert!(matches!(io(io::ErrorKind::ConnectionRefused), CloseReason::Refused(_)));
        let error = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        let plain = Ended::Tls { error, agreed: false }.close_reason(false);
        assert_eq!(plain, CloseReason::Tls(NO_TLS.into()));
    }
}
