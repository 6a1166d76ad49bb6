//! How the gateway behaves, and which faults it shows.

mod http;
mod tls;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

pub use http::{AnswerFault, CookieStyle, Fault, Framing};
pub use tls::{ClientCertificate, Handshake, TlsKnobs};

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
    /// How often one session may fetch its configuration; later answers say `error`. `None`: always.
    pub config_fetches: Option<u32>,
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
    /// Each frame goes in a TLS record of its own.
    pub frame_per_record: bool,

    /// Where the browser is sent after a SAML login.
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
            config_fetches: Some(2),
            replace_cookie: false,
            reuse: None,
            check_source: true,
            second_tunnel: SecondTunnel::ReplaceOld,
            tunnel_status: None,
            tunnels_allowed: None,
            drop_tunnel_after: None,
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
            frame_per_record: false,
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

/// How the gateway drops a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseStyle {
    /// TLS close_notify, then FIN.
    CloseNotify,
    /// FIN without close_notify.
    Fin,
    /// TCP reset.
    Reset,
    /// LCP Terminate-Request with a reason; the session ends.
    Terminate,
    /// Silence: everything is read and nothing is answered.
    Blackhole,
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
    /// The first user is signed in already.
    AtOnce,
    /// A page asks for name and password.
    Form,
}

/// The PPP negotiation.
#[derive(Clone, Debug)]
pub struct PppKnobs {
    /// The gateway's own address in IPCP.
    pub own_address: Ipv4Addr,
    /// Give this address in IPCP, whatever the configuration said.
    pub client_address: Option<Ipv4Addr>,
    /// Send an own LCP Configure-Request.
    pub ask_lcp: bool,
    /// Ask for authentication by PAP, which a client has to refuse.
    pub ask_auth: bool,
    /// Name an MRU in the own Configure-Request.
    pub own_mru: Option<u16>,
    /// How the client's MRU is taken.
    pub mru: Mru,
    /// Offer Van Jacobson compression.
    pub offer_vj: bool,
    /// How DNS options are answered.
    pub dns: DnsOffer,
    /// Answer Echo-Requests.
    pub answer_echo: bool,
    /// Send an Echo-Request this often.
    pub echo_every: Option<Duration>,
}

impl Default for PppKnobs {
    fn default() -> Self {
        Self {
            own_address: Ipv4Addr::new(192, 0, 2, 1),
            client_address: None,
            ask_lcp: true,
            ask_auth: false,
            own_mru: None,
            mru: Mru::Ack,
            offer_vj: false,
            dns: DnsOffer::Nak,
            answer_echo: true,
            echo_every: None,
        }
    }
}

/// How the client's MRU is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mru {
    /// Acknowledged, whatever it is.
    Ack,
    /// Only this one is acknowledged.
    Nak(u16),
    /// The option is rejected.
    Reject,
}

/// How DNS options in IPCP are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsOffer {
    /// With the servers of the configuration.
    Nak,
    /// The options are rejected.
    Reject,
}
