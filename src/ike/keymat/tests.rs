//! Expected values are from another program: HMAC and the loop of prf+ in Python, cut by the order of the RFCs.

use super::*;
use crate::crypto::{Group, Integrity};

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|octet| !octet.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn secret(octets: impl Iterator<Item = u8>) -> Secret {
    Secret::new(octets.collect())
}

const SPIS: (u64, u64) = (0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00);

/// Nonces of 32 and 48 octets, that no length may be taken for the other's; and g^ir of 64.
fn with_inputs<T>(derive: impl FnOnce(Nonces<'_>, &Secret) -> T) -> T {
    let (ni, nr): (Vec<u8>, Vec<u8>) = ((0x10..0x30).collect(), (0x30..0x60).collect());
    derive(Nonces { ni: &ni, nr: &nr }, &secret(1..=64))
}

fn assert_keys(keys: &IkeKeys, expected: [&str; 5]) {
    let keys = [&keys.sk_d, &keys.protect_i, &keys.protect_r, &keys.sk_pi, &keys.sk_pr];
    for ((key, expected), name) in keys.into_iter().zip(expected).zip(["d", "ei | ai", "er | ar", "pi", "pr"])
    {
        assert_eq!(key.expose(), hex(expected), "SK_{name}");
    }
}

/// SK_a* have no octets.
#[test]
fn keys_of_an_ike_sa_with_an_aead() {
    let suite =
        IkeSuite { cipher: Cipher::Aes256Gcm, prf: Prf::HmacSha256, group: Group::X25519, kems: [None; 2] };
    let keys = with_inputs(|nonces, shared| IkeKeys::initial(suite, shared, nonces, SPIS)).unwrap();
    assert_keys(
        &keys,
        [
            "15cd5bb1b4a7a8726cd769d93c8b61baf90f40d6df2267896f53de634c017a1d",
            "e08d87ef18a650e01688ab46e8967b1b4117a56fe39ab031044f55f9f85845341fc4bfd7",
            "305b9e052370349b22bf0e6cf717e6932d532e2dc6e36ea5c44ce0efbac6276d8ab06a94",
            "afc54ee68c78eb5e18a7d103ef40da29b1d649533f45d55561f68069034c201b",
            "7d4fb197118cce4056bdefe7c980c3670081572662ac7b9922d30fc0a219fbd7",
        ],
    );
}

/// On the wire of prf+ the keys of the MACs come first, with us the key of the cipher does.
#[test]
fn keys_of_an_ike_sa_with_a_mac() {
    let cipher = Cipher::Aes256Cbc(Integrity::HmacSha512);
    let suite = IkeSuite { cipher, prf: Prf::HmacSha384, group: Group::X25519, kems: [None; 2] };
    let keys = with_inputs(|nonces, shared| IkeKeys::initial(suite, shared, nonces, SPIS)).unwrap();
    assert_keys(
        &keys,
        [
            "b3d68548235b8acd23740747a19a0a21dfb64acb20062ecb6ab0b5bc49d3bfc4eee2ad885eb711963e54cc567594a90a",
            "f1b52c560692bdf07912c6128634b01333e27a0078ff6bf851e72af4e6ca011a
             e092dd0e09b96f5a2470852b6547c83bd7a1ae8f19453a555e45e96f281bb8345e8bda7facb3816086ad8dd4e16dce2b
             522b35d79410b541ee02b630a3ec2aae",
            "49dc33e1fb99ff799d34551f18834a64240392de09759c2e61383cb632b6d044
             c56a26dec8515698652cf778059f896c9a6d11fa345cef68495167534c0a824951203b286f7d1cdbcca5a8e6f599a51a
             51b71dccd09ab7f9603ad45e545f260e",
            "b02bbe11f12aee6c7fdb6e04ea8a2e5796f8f2c28fcc1a752d630f45a75e31c9010d798c58f3fa8f72cb61092a578de1",
            "eb722564e54a58b6cb012f83168a751cf25c0c1ebf207ccc1e30d93a6e52ca4dc2b204b5d828050af7225e16b552572e",
        ],
    );
}

/// SKEYSEED by the PRF of the old IKE SA, the rest by that of the new one (RFC 7296 section 2.18).
#[test]
fn keys_of_a_rekeyed_ike_sa() {
    let cipher = Cipher::Aes128Cbc(Integrity::HmacSha1);
    let suite = IkeSuite { cipher, prf: Prf::HmacSha256, group: Group::X25519, kems: [None; 2] };
    let old = secret(0xa0..0xb4);
    let keys = with_inputs(|nonces, shared| {
        IkeKeys::rekeyed(suite, (Prf::HmacSha1, &old), &Shared::from(shared.clone()), nonces, SPIS).unwrap()
    });
    assert_keys(
        &keys,
        [
            "bff8bf0736541e41840cf78a3d77f8747283b017dd818d20bf41f836db51fa00",
            "04e8e52a844d9ac6ef13c5cebb448603 856ede0fe506d59cb7e161943a5eb6d5c72fb356",
            "6d302aa5667727a10842ca347937bfc4 697bd65fe3760b88416eb387ec67d5aaa582466a",
            "9605103b7729a1b0765fc37fddb9114f8967cc95c67e57cd796a70fec9f8317b",
            "5b87b5c13c094ac15fffdfbf4a0c9fad0991b7bc5a9857fecc4ef2cb2c14cd42",
        ],
    );
}

#[test]
fn keys_of_a_child_sa() {
    let sk_d = secret(0xc0..0xe0);
    let cbc = Cipher::Aes128Cbc(Integrity::HmacSha256);
    for (cipher, with_group, i2r, r2i) in [
        (
            Cipher::Aes128Gcm,
            false,
            "55bd6a35c411f3a794bf504e7321e3459f36481e",
            "e1eb61dd8485b37ac998d57cead6961fb136ee08",
        ),
        (
            Cipher::Aes128Gcm,
            true,
            "266d8bffd4e99f240a3f9910839ed51a9af5af52",
            "bdf18ed81ab3280d304a42e1b9cc339fa97e7760",
        ),
        (
            cbc,
            false,
            "55bd6a35c411f3a794bf504e7321e345 9f36481ee1eb61dd8485b37ac998d57cead6961fb136ee089378298c54071d5d",
            "f38fc4fd1b00427d93cb0e93fdaf4b1b d1229ae885b44315101d2c55d0c96e8122b543818633f9cf6855aaa12ade8f2a",
        ),
        (
            cbc,
            true,
            "266d8bffd4e99f240a3f9910839ed51a 9af5af52bdf18ed81ab3280d304a42e1b9cc339fa97e7760173ec7623bafbdd9",
            "a4aed5b85a37efd9924f57dd885022c6 495fbca9771adec17035ba4cff9d0311515ffa9132d016ac16b051fd80b513ec",
        ),
    ] {
        let keys = with_inputs(|nonces, shared| {
            child_keys(
                (Prf::HmacSha256, &sk_d),
                cipher,
                &Shared { first: with_group.then(|| shared.clone()), additional: vec![] },
                nonces,
            )
            .unwrap()
        });
        assert_eq!(
            (keys.0.expose(), keys.1.expose()),
            (&hex(i2r)[..], &hex(r2i)[..]),
            "{cipher:?} {with_group}"
        );
    }
}
