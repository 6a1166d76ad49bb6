//! Browsers of devices at port 80.

use super::*;

const OTHER_DEVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 3);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: 198.19.255.1\r\n\r\n";

fn browse(peer: &mut Peer, port: u16) -> SocketHandle {
    let handle = peer.socket();
    let socket = peer.sockets.get_mut::<Socket<'_>>(handle);
    socket.connect(peer.interface.context(), (HOST, 80), port).unwrap();
    handle
}

#[test]
fn a_request_in_pieces_is_answered_once_and_the_connection_closed() {
    let mut host = host(&[]);
    let mut device = Peer::new(DEVICE);
    let client = browse(&mut device, 4000);
    settle(0, &mut host, &mut [&mut device]);
    for (piece, whole) in [(&GET[..20], false), (&GET[20..], true), (b"GET /more", false)] {
        device.get(client).send_slice(piece).unwrap();
        settle(1, &mut host, &mut [&mut device]);
        let visit = host.poll_visit();
        assert_eq!(visit.is_some(), whole);
        let Some(visit) = visit else { continue };
        assert_eq!((visit.from, &visit.bytes[..], visit.number), (DEVICE, GET, 0));
    }
    let response = vec![b'x'; 40_000];
    host.answer_visit(now(2), 0, response.clone());
    host.answer_visit(now(2), 7, response.clone());
    let mut got = Vec::new();
    for ms in 0..10 {
        settle(2 + 50 * ms, &mut host, &mut [&mut device]);
        got.extend(device.received(client));
    }
    assert!(got == response, "{}", got.len());
    assert_eq!(device.get(client).state(), State::CloseWait);
    device.get(client).close();
    settle(1000, &mut host, &mut [&mut device]);
    assert_eq!(host.poll_timeout(), None, "nothing is left");
}

#[test]
fn slow_and_idle_browsers_are_cut_off() {
    let mut host = host(&[]);
    let mut device = Peer::new(DEVICE);
    let (slow, gone) = (browse(&mut device, 4000), browse(&mut device, 4001));
    settle(0, &mut host, &mut [&mut device]);
    device.get(slow).send_slice(&GET[..9]).unwrap();
    device.get(gone).send_slice(&GET[..9]).unwrap();
    device.get(gone).close();
    settle(100, &mut host, &mut [&mut device]);
    assert_eq!(device.get(gone).state(), State::Closed, "half a request and FIN");
    settle(4900, &mut host, &mut [&mut device]);
    assert_eq!(device.get(slow).state(), State::Established);
    settle(5000, &mut host, &mut [&mut device]);
    assert_eq!(device.get(slow).state(), State::Closed);
    assert_eq!((host.poll_visit().is_none(), host.poll_timeout()), (true, None));
}

#[test]
fn many_connections_of_one_device_lock_nobody_out() {
    let mut host = host(&[]);
    let (mut device, mut other) = (Peer::new(DEVICE), Peer::new(OTHER_DEVICE));
    let first = browse(&mut other, 4000);
    for port in 5000..5100 {
        browse(&mut device, port);
        settle(u64::from(port - 5000), &mut host, &mut [&mut device, &mut other]);
    }
    other.get(first).send_slice(GET).unwrap();
    let last = browse(&mut device, 6000);
    settle(200, &mut host, &mut [&mut device, &mut other]);
    device.get(last).send_slice(GET).unwrap();
    settle(210, &mut host, &mut [&mut device, &mut other]);
    let visits: Vec<_> = std::iter::from_fn(|| host.poll_visit()).map(|visit| visit.from).collect();
    assert_eq!(visits, [OTHER_DEVICE, DEVICE]);
}
