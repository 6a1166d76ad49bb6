//! New settings while a session runs.

use super::*;

fn with(credentials: Credentials, realm: &str) -> Box<Config> {
    // Another gateway is none of the session's business.
    Box::new(Config { realm: Some(realm.into()), ..Config::new("other.example", 1, credentials) })
}

fn password(password: &str) -> Credentials {
    let password = Some(Secret::from(password.as_bytes()));
    Credentials::Password { username: "bob".into(), password }
}

fn settings(credentials: Credentials, realm: &str) -> Input {
    Input::Settings { config: with(credentials, realm), credentials_changed: true }
}

fn ended_by_the_gateway(b: &mut Bench) {
    b.bytes(&frame_of(protocol::LCP, &Packet { code: code::TERMINATE_REQUEST, id: 9, data: &[] }.emit()));
    b.pump();
    b.run(120.0);
}

#[test]
fn the_next_sign_in_has_them_and_the_tunnel_stays() {
    let mut b = Bench::password().up();
    b.handle(settings(password("battery"), "guests"));
    b.run(60.0);
    assert!(b.session.is_up());
    assert_eq!((b.connects, b.bodies.len(), b.events.len()), (1, 1, 1));
    ended_by_the_gateway(&mut b);
    assert!(b.session.is_up(), "{:?}", b.events);
    assert_eq!(b.bodies.len(), 2);
    for part in ["username=bob", "credential=battery", "realm=guests"] {
        assert!(b.bodies[1].contains(part), "{}", b.bodies[1]);
    }
    // The way may be another one altogether.
    b.handle(settings(Credentials::Saml, "staff"));
    ended_by_the_gateway(&mut b);
    assert_eq!(b.links(), 1, "{:?}", b.events);
}

#[test]
fn what_was_refused_comes_back_only_with_new_credentials() {
    let mut b = Bench::password().script("/remote/logincheck", vec![denied(), accepted("c2")]);
    b.handle(Input::Start);
    assert_eq!(b.failed(), Some(&Error::Denied));
    let same = Credentials::Password { username: "alice".into(), password: Some(Secret::from(&b"x"[..])) };
    b.handle(Input::Settings { config: with(same, "guests"), credentials_changed: false });
    b.handle(Input::Retry);
    assert_eq!((b.bodies.len(), b.questions()), (1, 1), "a person is asked, nothing is sent again");
    // While the question is open, better credentials wait for the next try.
    b.handle(settings(password("battery"), "guests"));
    b.run(700.0);
    assert_eq!(b.bodies.len(), 1);
    b.handle(Input::Retry);
    assert!(b.session.is_up(), "{:?}", b.events);
    assert!(b.bodies[1].contains("credential=battery"), "{}", b.bodies[1]);
}

#[test]
fn a_sign_in_under_way_ends_as_it_began() {
    let mut b = Bench::saml();
    b.handle(Input::Start);
    b.handle(settings(password("battery"), "guests"));
    assert_eq!(b.events.len(), 1, "the link is still good");
    b.handle(Input::SamlId("6c1f0a9e".into()));
    assert!(b.session.is_up() && b.bodies.is_empty());
    ended_by_the_gateway(&mut b);
    assert!(b.session.is_up());
    assert_eq!((b.bodies.len(), b.links()), (1, 1));
}
