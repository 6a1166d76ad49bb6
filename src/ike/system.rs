//! Which system a client is, as far as its messages tell: for people, and for the one that must be treated otherwise.
//!
//! Nothing here is authenticated knowledge: any client may look like another. macOS and iOS send the same, and so do all
//! clients that are made of strongSwan.

use std::fmt;

use super::exchange::notifies;
use crate::wire::ike::{Configuration, Kind, Payload, Proposal, attribute, notify_type, transform_type};

/// Vendor IDs of Windows (each is an MD5 of a text, the first is followed by a version): "MS NT5 ISAKMPOAKLEY" and
/// "MS-Negotiation Discovery Capable".
const WINDOWS: [[u8; 16]; 2] = [
    0x1e2b_5169_0599_1c7d_7c96_fcbf_b587_e461_u128.to_be_bytes(),
    0xfb1d_e3cd_f341_b7ea_16b7_e5be_0855_f120_u128.to_be_bytes(),
];

/// Key exchange methods: the MODP group of 4096 bits, and the three NIST curves.
const MODP_4096: u16 = 16;
const NIST_CURVES: std::ops::RangeInclusive<u16> = 19..=21;

/// The system of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// macOS, iOS, iPadOS, tvOS: their messages do not differ.
    Apple,
    /// Windows.
    Windows,
    /// Android's own client.
    Android,
    /// strongSwan: of Linux, of NetworkManager, or its app.
    StrongSwan,
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apple => "Apple",
            Self::Windows => "Windows",
            Self::Android => "Android",
            Self::StrongSwan => "strongSwan",
        })
    }
}

/// What IKE_SA_INIT shows of the client's system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hints {
    /// It has a vendor ID of Windows.
    pub(super) windows: bool,
    /// It may be redirected (RFC 5685).
    pub(super) redirect: bool,
    /// It lists the hashes of RFC 7427.
    pub(super) hashes: bool,
    /// Its proposals have MODP-4096.
    pub(super) modp_4096: bool,
    /// Its proposals have a NIST curve.
    pub(super) nist_curves: bool,
}

impl Hints {
    /// Of the payloads of IKE_SA_INIT, with the proposals in them.
    pub(super) fn new(payloads: &[Payload<'_>], proposals: &[Proposal]) -> Self {
        let has = |kind| notifies(payloads).any(|notify| notify.kind == kind);
        let mut vendors = payloads.iter().filter(|payload| payload.kind == Kind::Vendor);
        let transforms = proposals.iter().flat_map(|proposal| &proposal.transforms);
        let mut groups = transforms.filter(|t| t.kind == transform_type::KE).map(|t| t.id);
        Self {
            windows: vendors.any(|vendor| WINDOWS.iter().any(|id| vendor.body.starts_with(id))),
            redirect: has(notify_type::REDIRECT_SUPPORTED),
            hashes: has(notify_type::SIGNATURE_HASH_ALGORITHMS),
            modp_4096: groups.clone().any(|id| id == MODP_4096),
            nist_curves: groups.any(|id| NIST_CURVES.contains(&id)),
        }
    }

    /// The system, after IKE_AUTH with these payloads, whose configuration request is `request`.
    pub(super) fn guess(self, payloads: &[Payload<'_>], request: &Configuration<'_>) -> Option<System> {
        let has = |kind| notifies(payloads).any(|notify| notify.kind == kind);
        let asks = |kinds: [u16; 2]| kinds.iter().any(|kind| request.asks(*kind));
        let asks_dhcp = asks([attribute::INTERNAL_IP4_DHCP, attribute::INTERNAL_IP6_DHCP]);
        if self.windows || asks([attribute::INTERNAL_IP4_SERVER, attribute::INTERNAL_IP6_SERVER]) {
            Some(System::Windows)
        } else if asks_dhcp && request.asks(attribute::INTERNAL_DNS_DOMAIN) {
            Some(System::Apple)
        } else if has(notify_type::MULTIPLE_AUTH_SUPPORTED) || has(notify_type::MESSAGE_ID_SYNC_SUPPORTED) {
            Some(System::StrongSwan)
        } else if self.redirect && !self.hashes {
            Some(System::Apple)
        } else if self.hashes && self.modp_4096 && !self.nist_curves {
            Some(System::Android)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ike::{Attribute, CfgType, Notify, Transform, protocol};

    const AUTH_ONLY: [u16; 2] = [16404, 16417];
    const NAT: [u16; 2] = [notify_type::NAT_DETECTION_SOURCE_IP, notify_type::NAT_DETECTION_DESTINATION_IP];
    const FRAGMENTS: u16 = notify_type::FRAGMENTATION_SUPPORTED;
    const HASHES: u16 = notify_type::SIGNATURE_HASH_ALGORITHMS;
    const REDIRECT: u16 = 16406;

    /// What one client sends: notifies and vendor IDs of IKE_SA_INIT, the groups of each of its proposals, notifies of
    /// IKE_AUTH, and the attributes that it asks for.
    struct Sends<'a> {
        init: &'a [u16],
        vendors: &'a [&'a str],
        groups: &'a [&'a [u16]],
        auth: &'a [u16],
        asked: &'a [u16],
    }

    fn guess(sends: &Sends<'_>) -> Option<System> {
        let bodies = |kinds: &[u16]| -> Vec<Vec<u8>> {
            kinds.iter().map(|kind| Notify::new(*kind, &[]).emit()).collect()
        };
        let (init, auth) = (bodies(sends.init), bodies(sends.auth));
        let vendors: Vec<Vec<u8>> = sends
            .vendors
            .iter()
            .map(|hex| {
                (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
            })
            .collect();
        let notify = |body| Payload { kind: Kind::Notify, next: 0, body };
        let vendor = |body| Payload { kind: Kind::Vendor, next: 0, body };
        let init: Vec<_> = init
            .iter()
            .map(|b| notify(b.as_slice()))
            .chain(vendors.iter().map(|b| vendor(b.as_slice())))
            .collect();
        let auth: Vec<_> = auth.iter().map(|b| notify(b.as_slice())).collect();
        let proposals: Vec<_> = (1..)
            .zip(sends.groups)
            .map(|(number, groups)| {
                let transforms = groups.iter().map(|id| Transform::new(transform_type::KE, *id)).collect();
                Proposal { number, protocol: protocol::IKE, spi: vec![], transforms }
            })
            .collect();
        let attributes = sends.asked.iter().map(|kind| Attribute { kind: *kind, value: &[] }).collect();
        let request = Configuration { cfg_type: CfgType::Request, attributes };
        Hints::new(&init, &proposals).guess(&auth, &request)
    }

    #[test]
    fn windows_by_its_vendor_ids_or_by_what_it_asks() {
        let groups: [&[u16]; 3] = [&[2]; 3];
        let windows = Sends {
            init: &[FRAGMENTS, NAT[0], NAT[1]],
            vendors: &[
                "1e2b516905991c7d7c96fcbfb587e46100000009",
                "fb1de3cdf341b7ea16b7e5be0855f120",
                "01528bbbc00696121849ab9a1c5b2a5100000002",
            ],
            groups: &groups,
            auth: &[notify_type::MOBIKE_SUPPORTED],
            asked: &[1, 3, 4, 23456, 8, 10, 23457],
        };
        assert_eq!(guess(&windows), Some(System::Windows));
        assert_eq!(guess(&Sends { vendors: &[], ..windows }), Some(System::Windows));
        assert_eq!(guess(&Sends { asked: &[1, 3], ..windows }), Some(System::Windows));
        assert_eq!(guess(&Sends { vendors: &[], asked: &[1, 3], ..windows }), None);
    }

    #[test]
    fn apple_of_every_era_and_with_one_suite() {
        let mobike = notify_type::MOBIKE_SUPPORTED;
        let eras: [(&[&[u16]], &[u16]); 3] = [
            // iOS 12 to 16 by hand; macOS 14; a profile with one suite and PFS.
            (&[&[14], &[19], &[5], &[2], &[2]], &[16384, 16394, 16395, mobike]),
            (&[&[19], &[14], &[19], &[14]], &[16384, 16394, 16395, mobike, 16417]),
            (&[&[19]], &[16384, 16394, 16395]),
        ];
        for (groups, auth) in eras {
            let apple = Sends {
                init: &[REDIRECT, NAT[0], NAT[1], FRAGMENTS],
                vendors: &[],
                groups,
                auth,
                asked: &[1, 2, 6, 3, 8, 12, 10, 25],
            };
            assert_eq!(guess(&apple), Some(System::Apple));
            assert_eq!(guess(&Sends { init: &NAT, ..apple }), Some(System::Apple), "redirects refused");
            assert_eq!(guess(&Sends { asked: &[1, 3], ..apple }), Some(System::Apple));
        }
    }

    #[test]
    fn android_offers_no_nist_curve() {
        let android = Sends {
            init: &[FRAGMENTS, HASHES, NAT[0], NAT[1]],
            vendors: &[],
            groups: &[&[16, 31, 15, 14], &[16, 31, 15, 14]],
            auth: &[notify_type::MOBIKE_SUPPORTED],
            asked: &[1, 3, 8, 10],
        };
        assert_eq!(guess(&android), Some(System::Android));
        assert_eq!(guess(&Sends { groups: &[&[31, 19, 16]], ..android }), None);
        assert_eq!(guess(&Sends { groups: &[&[31]], ..android }), None);
    }

    #[test]
    fn strongswan_in_all_its_forms() {
        let all: [&[u16]; 2] = [&[31, 19, 20, 21, 15, 16, 14]; 2];
        // Of Linux; of NetworkManager, which asks for both families; without redirection; with
        // signature_authentication = no.
        for (init, auth, asked) in [
            (
                &[NAT[0], NAT[1], FRAGMENTS, HASHES, REDIRECT][..],
                &[16384, 16396, 16404, 16417, 16420][..],
                &[1, 3][..],
            ),
            (&[NAT[0], NAT[1], FRAGMENTS, HASHES, REDIRECT], &[16396, 16404, 16417, 16420], &[1, 8, 3, 10]),
            (&[NAT[0], NAT[1], FRAGMENTS, HASHES], &AUTH_ONLY, &[1, 8, 3, 10]),
            (&[NAT[0], NAT[1], FRAGMENTS, REDIRECT], &AUTH_ONLY, &[1, 3]),
        ] {
            let strongswan = Sends { init, vendors: &[], groups: &all, auth, asked };
            assert_eq!(guess(&strongswan), Some(System::StrongSwan));
        }
    }

    #[test]
    fn a_client_that_shows_nothing_is_unknown() {
        let plain = Sends { init: &NAT, vendors: &["00"], groups: &[&[31, 19]], auth: &[], asked: &[1, 3] };
        assert_eq!(guess(&plain), None);
        assert_eq!(guess(&Sends { init: &[NAT[0], HASHES], ..plain }), None);
    }
}
