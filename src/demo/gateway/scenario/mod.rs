//! How the gateway behaves, and which faults it shows.
//!
//! Behaviours, and what chooses between them (`Scenario` unless another type is named):
//!
//! | no. | behaviour | knobs |
//! |---|---|---|
//! | B1 | entry, realms | `script_entry`, `User::in_realm` |
//! | B2 | login page, certificate alone | `language_redirect`, `User::with_certificate` with an empty password |
//! | B3 | `/remote/info` | |
//! | B4 | GET with a body | `refuse_get_body` |
//! | B5-B7 | forms, cookies, success | `cookie_length`, `refused_user_agent` |
//! | B8 | denials, lockout | `deny_mode`, `deny_error`, `deny_all`, `lockout` |
//! | B9 | second factors | `User::with_factor` and [`super::Factor`], `factor_timeout`, `push_timeout`, `form_style` |
//! | B10 | host check, other session | `host_check`, `session_limit` |
//! | B11 | SAML | `identity_provider`, `saml_host`, `saml_port`, `saml_id_lifetime` |
//! | B12 | portal pages | `index_forbidden` |
//! | B13 | configuration | `addresses`, `dns`, `dns_suffix`, `split_routes`, `excluded_routes`, `ipv6`, `config_fetches`, `replace_cookie` |
//! | B14 | tunnel request | `login_timeout`, `check_source`, `source`, `tunnels_allowed`, `tunnel_status` |
//! | B15 | PPP | `ppp` ([`PppKnobs`]) |
//! | B16 | network behind | [`super::FarSide`], `narrow_path`, `moving` |
//! | B17 | foreign sources are dropped | `Counts::spoofed` |
//! | B18 | timeouts | `idle_timeout`, `auth_timeout`, `echo_is_activity`, `timeout_close` |
//! | B19 | another tunnel | `reuse`, `second_tunnel`, `check_source` |
//! | B20, B23 | logout, odd requests | |
//! | B21 | records | `record_limit`, `random_records`, `frame_per_record` |
//! | B22 | TLS | `tls12_only`, `tls` ([`TlsKnobs`], [`super::ServerCertificate`]) |
//! | B24 | no PPP listed | `tunnel_methods` |
//!
//! Faults:
//!
//! | no. | fault | knobs |
//! |---|---|---|
//! | F01, F02 | no handshake | `tls.handshake`, `tls.handshake_times` ([`Handshake`]) |
//! | F03 | another certificate | `tls.certificate_after_login` (with `close_after_answer`), `tls.certificate` |
//! | F04 | stale keep-alive | `close_after_answer`, [`Fault::ClosedSilently`], [`Fault::Close`], [`Fault::Lost`] |
//! | F05 | slow, long, endless answers | [`Fault::Dribble`], [`Fault::Padding`], [`Fault::EndlessHead`], [`Fault::EndlessBody`] |
//! | F06, F07 | chunks | `chunk_padding`, `doubled_last_chunk`, [`Fault::Framing`], [`Fault::Bytes`] |
//! | F08, F09 | until close, gzip | [`Framing::UntilCut`], [`Fault::Gzip`] |
//! | F10 | cookies | [`Fault::Cookie`], `cookie_length` |
//! | F11 | redirects | [`Fault::redirect`] |
//! | F12 | denials | `deny_mode`, `deny_error`, `lockout` |
//! | F13 | push | `Factor::push`, `push_timeout` |
//! | F14 | codes | `Factor::tries`, `Factor::codes`, `Factor::prompted`, several factors |
//! | F15 | renewal | `Factor::renewal`, `Factor::skippable` |
//! | F16 | HTML form | `Factor::form`, `form_style` |
//! | F17 | SAML trade | [`Fault`] on `/remote/saml/auth_id`: `status`, `Delay`, `Cookie(Missing)`, `KeptOpen`; `saml_id_lifetime` |
//! | F18 | SAML listener | nothing here but ids that are bad: [`Fault::redirect`] on `/remote/saml/login` |
//! | F19, F20 | XML | `configuration`; [`Fault::page`] and [`Fault::Bytes`] on `/remote/fortisslvpn_xml` |
//! | F21 | no XML | [`Fault::redirect`], [`Fault::status`], [`Fault::page`] on `/remote/fortisslvpn_xml` |
//! | F22 | no tunnel | on `/remote/sslvpn-tunnel`: [`Fault::status`], [`Fault::Split`], `redirect`, `Close`, `Hang`; 200 before frames: `orders` with [`Moment::FirstFrame`] |
//! | F23, F24, F36 | frames and packets of any kind | `orders` or [`super::Gateway::order_tunnels`] with [`Order::Send`] and [`super::frame()`]; `record_limit`, `ppp.address_control` |
//! | F25 | LCP | `ppp`: `ask_lcp`, `mru`, `magic`, `ask_auth`, `ask_field_compression`, `own_mru`, `more_options` |
//! | F26 | lost packets | `ignore_frames` |
//! | F27 | odd answers | `ppp.acks`, `ppp.lcp_naks`, `ppp.ipcp_naks` |
//! | F28 | IPCP | `ppp`: `client_address`, `reject_address`, `dns`, `offer_vj`, `insist_on_pair`, `own_address` |
//! | F29 | new negotiation | [`Order::Renegotiate`] |
//! | F30 | echo | `ppp`: `answer_echo`, `echo`, `echo_every` |
//! | F31 | black hole | [`Moment::Packets`] and [`CloseStyle::Blackhole`] |
//! | F32 | ends | [`CloseStyle`], `ppp.terminate_reason` |
//! | F33 | another tunnel | `reuse`, `source`, `ppp.client_address`, `refetch_ends_session`, `config_fetches` |
//! | F34 | timeouts | `idle_timeout`, `auth_timeout`, `echo_is_activity` |
//! | F35 | back-pressure | [`Order::PauseReading`], [`Order::ReadSlowly`] |
//! | F37 | ends that hang | `ppp.ack_terminate`, [`Fault::Hang`] on `/remote/logout` |
//! | F38 | restart | [`super::Gateway::restart`] |
//! | F40 | TLS extras | [`Order::UpdateKeys`], [`Order::EmptyRecords`], [`Order::HelloRequest`] (with `tls12_only`), `tls.tickets` |
//! | F43 | no address | `addresses` empty |
//! | F44 | host check for ever | [`HostCheck::Loop`] |
//! | F45 | new cookie | `replace_cookie` |
//!
//! Not here: F39 (names and addresses) and F42 (the client's clock) are not the gateway's; there is no DTLS (F41).

mod http;
mod tls;
mod tunnel;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

pub use http::{AnswerFault, CookieStyle, Fault, Framing};
pub use tls::{ClientCertificate, Handshake, TlsKnobs};
pub use tunnel::{Acks, CloseStyle, DnsOffer, Echo, Magic, Moment, Mru, Order, PppKnobs};

/// The behaviour of the gateway. `Default` is a healthy FortiOS 7.x with a split tunnel to the built-in network.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How a refused login looks.
    pub deny_mode: DenyMode,
    /// The error code of [`DenyMode::Body`].
    pub deny_error: &'static str,
    /// Refuse also right credentials.
    pub deny_all: bool,
    /// Two wrong passwords block the source address for this long (`None`: never).
    pub lockout: Option<Duration>,
    /// `GET /` answers with a page whose script goes to the login page, as FortiOS 7.4 does, and not with a redirect.
    pub script_entry: bool,
    /// Close the connection at a GET with a body, as FortiOS 7.4.4 and later do.
    pub refuse_get_body: bool,
    /// `GET /remote/login` is sent to itself with `lang=en` first.
    pub language_redirect: bool,
    /// `POST /remote/logincheck` answers 405 when the User-Agent contains this.
    pub refused_user_agent: Option<String>,
    /// How long the gateway waits for the answer to a second factor.
    pub factor_timeout: Duration,
    /// How long the gateway waits for a decision about a push.
    pub push_timeout: Duration,
    /// How the HTML form of a second factor is written.
    pub form_style: FormStyle,
    /// A user with so many sessions is asked at `/remote/loginconfirm`.
    pub session_limit: Option<usize>,
    /// What comes between the credentials and the cookie.
    pub host_check: HostCheck,
    /// `/remote/index` answers 403.
    pub index_forbidden: bool,
    /// Session timeout between login and tunnel.
    pub login_timeout: Duration,
    /// The session ends when no data flowed for this long (zero: never).
    pub idle_timeout: Duration,
    /// The session ends this long after login (zero: never).
    pub auth_timeout: Duration,
    /// An LCP Echo-Request counts as activity.
    pub echo_is_activity: bool,
    /// How the gateway closes a tunnel whose session has timed out.
    pub timeout_close: CloseStyle,

    /// The addresses that sessions get, in turn; when all are taken the configuration says `error`.
    pub addresses: Vec<Ipv4Addr>,
    /// DNS servers of the configuration.
    pub dns: Vec<Ipv4Addr>,
    /// DNS suffix of the configuration.
    pub dns_suffix: Option<String>,
    /// Split routes (network, prefix length). Empty: everything goes through the tunnel.
    pub split_routes: Vec<(Ipv4Addr, u8)>,
    /// Routes kept out of the tunnel (`negate='1'`).
    pub excluded_routes: Vec<(Ipv4Addr, u8)>,
    /// The IPv6 part, for clients that ask for it with `dual_stack=1`.
    pub ipv6: Option<Ipv6Offer>,
    /// What `tunnel-method` elements name.
    pub tunnel_methods: &'static [&'static str],
    /// This in place of the configuration, with `{address}` for the session's address.
    pub configuration: Option<String>,
    /// How often one session may fetch its configuration; later answers say `error`. `None`: always.
    pub config_fetches: Option<u32>,
    /// A second fetch of the configuration gets it, but ends the session.
    pub refetch_ends_session: bool,
    /// The configuration comes with a new cookie, and only that one opens the tunnel.
    pub replace_cookie: bool,
    /// `tun-connect-without-reauth`: after a drop the cookie opens another tunnel within this time.
    pub reuse: Option<Duration>,
    /// The cookie is good from the address it was given to only.
    pub check_source: bool,
    /// What happens to a tunnel request while the session has a tunnel.
    pub second_tunnel: SecondTunnel,

    /// Answer the tunnel request with this HTTP status.
    pub tunnel_status: Option<u16>,
    /// After this many tunnels (of the gateway's life) every other is refused with 403.
    pub tunnels_allowed: Option<u32>,
    /// Drop each tunnel this long after it came up.
    pub drop_tunnel_after: Option<(Duration, CloseStyle)>,
    /// What each tunnel does, and when.
    pub orders: Vec<(Moment, Order)>,
    /// Ignore the first frames of each tunnel, as if they were lost.
    pub ignore_frames: u32,
    /// The PPP negotiation.
    pub ppp: PppKnobs,

    /// No TLS 1.3.
    pub tls12_only: bool,
    /// Certificates and handshakes.
    pub tls: TlsKnobs,
    /// Chunk sizes padded with spaces, as FortiOS sends them.
    pub chunk_padding: bool,
    /// The end of a chunked body is sent twice.
    pub doubled_last_chunk: bool,
    /// Close the connection after each answer without saying so.
    pub close_after_answer: bool,
    /// Answers that go wrong.
    pub faults: Vec<AnswerFault>,
    /// Length of the session cookie.
    pub cookie_length: usize,
    /// What is taken for the client's address, in place of the real one.
    pub source: Option<IpAddr>,
    /// Cut frames into TLS records of at most this many octets, wherever that falls.
    pub record_limit: Option<usize>,
    /// Cut frames into TLS records of random lengths, up to `record_limit`.
    pub random_records: bool,
    /// Each frame goes in a TLS record of its own.
    pub frame_per_record: bool,

    /// Where the browser is sent after a SAML login: the host ...
    pub saml_host: &'static str,
    /// ... and the port.
    pub saml_port: u16,
    /// The built-in identity provider.
    pub identity_provider: IdentityProvider,
    /// How long a SAML id may be traded for a cookie.
    pub saml_id_lifetime: Duration,

    /// Packets with DF bound for this address that are larger than this are answered "fragmentation needed".
    pub narrow_path: Option<(Ipv4Addr, u16)>,
    /// The address of `moving.corp.example`, for tunnels that come up from now on.
    pub moving: Ipv4Addr,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            deny_mode: DenyMode::Body,
            deny_error: "sslvpn_login_permission_denied",
            deny_all: false,
            lockout: Some(Duration::from_secs(60)),
            script_entry: false,
            refuse_get_body: true,
            language_redirect: false,
            refused_user_agent: None,
            factor_timeout: Duration::from_secs(120),
            push_timeout: Duration::from_secs(60),
            form_style: FormStyle::Usual,
            session_limit: None,
            host_check: HostCheck::Off,
            index_forbidden: false,
            login_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            auth_timeout: Duration::from_secs(28800),
            echo_is_activity: false,
            timeout_close: CloseStyle::CloseNotify,
            addresses: (200..220).map(|last| Ipv4Addr::new(10, 212, 134, last)).collect(),
            dns: vec![Ipv4Addr::new(10, 77, 0, 53)],
            dns_suffix: Some("corp.example".into()),
            split_routes: vec![(Ipv4Addr::new(10, 77, 0, 0), 16)],
            excluded_routes: Vec::new(),
            ipv6: None,
            tunnel_methods: &["ppp", "tun"],
            configuration: None,
            config_fetches: Some(2),
            refetch_ends_session: false,
            replace_cookie: false,
            reuse: None,
            check_source: true,
            second_tunnel: SecondTunnel::ReplaceOld,
            tunnel_status: None,
            tunnels_allowed: None,
            drop_tunnel_after: None,
            orders: Vec::new(),
            ignore_frames: 0,
            ppp: PppKnobs::default(),
            tls12_only: false,
            tls: TlsKnobs::default(),
            chunk_padding: true,
            doubled_last_chunk: false,
            close_after_answer: false,
            faults: Vec::new(),
            cookie_length: 93,
            source: None,
            record_limit: None,
            random_records: false,
            frame_per_record: false,
            saml_host: "127.0.0.1",
            saml_port: 8020,
            identity_provider: IdentityProvider::AtOnce,
            saml_id_lifetime: Duration::from_secs(60),
            narrow_path: None,
            moving: Ipv4Addr::new(10, 77, 1, 1),
        }
    }
}

/// How a refused login looks on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenyMode {
    /// Mode A: 200, clearing cookies, `ret=0` with an error code.
    Body,
    /// Mode B: 405.
    Status405,
    /// 403.
    Status403,
    /// Mode C: 200 and an empty cookie, nothing else.
    EmptyCookie,
    /// A redirect to the login page.
    Redirect,
}

/// How the HTML form of a second factor is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormStyle {
    /// As FortiOS does.
    Usual,
    /// Other quotes, another order, none at all, upper case, comments: all of it HTML.
    Odd,
    /// There is no form.
    Missing,
}

/// The IPv6 part of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv6Offer {
    /// The client's address and the length of its prefix.
    pub address: (Ipv6Addr, u8),
    /// DNS servers.
    pub dns: Vec<Ipv6Addr>,
    /// Split routes.
    pub split_routes: Vec<(Ipv6Addr, u8)>,
}

/// What comes between the credentials and the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostCheck {
    /// Nothing.
    Off,
    /// A temporary cookie, traded at `/remote/hostcheck_install`.
    Hop,
    /// The trade gives a form, and `/remote/hostcheck_validate` gives the cookie to any answer.
    Form,
    /// As `Form`, but no answer is good enough.
    Fail,
    /// `/remote/hostcheck_install` sends the client to itself for ever.
    Loop,
}

/// What happens to a tunnel request while the session has a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondTunnel {
    /// 403 to the new one.
    Refuse,
    /// The old one is dropped by FIN, where the cookie may be used again at all.
    ReplaceOld,
}

/// The built-in identity provider of the SAML login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityProvider {
    /// The first user is signed in already: a redirect.
    AtOnce,
    /// As `AtOnce`, by a page whose script posts the answer, as real providers do.
    Script,
    /// A page with a button; the first user is signed in by pressing it.
    Button,
    /// A page asks for name and password.
    Form,
    /// A page says that access is denied, and the way ends there.
    Refuse,
}
