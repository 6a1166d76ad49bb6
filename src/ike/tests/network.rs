//! A network that loses, repeats and exchanges datagrams. What strangers and peers do wrong is in `negative`.

use crate::ike::testing::*;
use crate::wire::ike::*;

#[test]
fn datagrams_lost_repeated_and_out_of_order() {
    use crate::crypto::hash::sha256;
    for seed in 0..40_u8 {
        let mut world = World::new();
        let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
        let mut round = 0_u8;
        // Sends until an answer comes back; both ways lose, repeat and swap.
        let mut stubborn = |world: &mut World, client: &Initiator, request: &[Vec<u8>]| loop {
            assert!(round < 250, "no progress with seed {seed}");
            let dice = sha256(&[&[seed, round]]);
            round += 1;
            let mut there: Vec<_> =
                request.iter().zip(dice).filter(|(_, d)| d % 4 != 0).map(|(r, _)| r.clone()).collect();
            let copies = there.clone();
            there.extend(copies.into_iter().zip(dice).filter(|(_, d)| d % 3 == 0).map(|(r, _)| r));
            if dice[30].is_multiple_of(2) {
                there.reverse();
            }
            let mut back = world.exchange(client.path, &there);
            back.dedup();
            let whole = back.len();
            let fragments = back.first().and_then(|bytes| {
                let header = Header::parse(bytes).unwrap();
                Protected::parse(&header, bytes).ok()?.fragment.map(|fragment| usize::from(fragment.total))
            });
            back.truncate(fragments.unwrap_or(1));
            if whole > 0 && !dice[31].is_multiple_of(3) {
                return back;
            }
        };
        let request = client.init_request();
        let answer = stubborn(&mut world, &client, &[request]);
        assert_eq!(client.handle_init(&answer), InitAnswer::Done);
        let request = client.auth_request();
        let answer = stubborn(&mut world, &client, &request);
        assert_eq!(client.handle_auth(&answer), Ok(()));
        let request =
            client.protected_request(Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
        stubborn(&mut world, &client, &request);
        let log = world.take_log();
        let expected = ["install", "connected alice@example.com 198.19.255.2", "remove"];
        assert_eq!(log[..3], expected, "seed {seed}");
        assert_eq!(log.len(), 4, "each thing happened once");
    }
}
