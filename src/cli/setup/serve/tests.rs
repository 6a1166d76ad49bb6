use std::sync::mpsc;

use super::*;

const CONTENT: &[u8] = b"a profile";

/// An offer on loopback; what its end was comes over the channel.
fn offer(limit: Duration) -> (SocketAddr, String, mpsc::Receiver<bool>) {
    let server = Server::bind(Some(([127, 0, 0, 1], 0).into())).unwrap();
    let link = server.link();
    let (address, path) = link.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let (address, path) = (address.parse().unwrap(), format!("/{path}"));
    let (sender, ended) = mpsc::channel();
    let what = Offer {
        file: "a@b.mobileconfig".to_owned(),
        media_type: "application/x-test",
        steps: &["Tap it."],
        content: Secret::from(CONTENT),
    };
    thread::spawn(move || {
        let was_taken = server.serve(what, limit, |_| {}).unwrap();
        drop(server);
        sender.send(was_taken).unwrap();
    });
    (address, path, ended)
}

/// What comes back for these octets, up to the end of the connection.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // Whoever sends too much is cut off.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

#[test]
fn a_download_ends_the_offer_and_nothing_else_does() {
    let (address, path, ended) = offer(Duration::from_secs(60));
    let file = format!("{path}/a@b.mobileconfig");
    assert_eq!(path.len(), 33, "128 random bits");
    let page = ask(address, &request("GET", &path));
    assert!(page.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/html"), "{page}");
    assert!(page.contains(&format!("href=\"{file}\"")) && page.contains("<li>Tap it.</li>"), "{page}");
    assert!(!page.contains("<script") && page.contains("default-src 'none'"), "{page}");
    for (method, path, status) in [
        ("GET", "/", "404"),
        ("GET", "/favicon.ico", "404"),
        ("GET", &*format!("{path}/other"), "404"),
        ("GET", &path[..32], "404"),
        ("GET", &path.replace('/', "/0"), "404"),
        ("POST", &file, "405"),
        ("BREW", &path, "405"),
        ("HEAD", &path, "200"),
        ("HEAD", &file, "200"),
        ("HEAD", "/", "404"),
        ("GET", &format!("{path}/"), "200"),
    ] {
        let answer = ask(address, &request(method, path));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {answer}");
        assert_eq!(answer.ends_with("\r\n\r\n"), method == "HEAD", "{answer}");
    }
    for (text, status) in
        [("nonsense\r\n\r\n".to_owned(), "400"), (format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000)), "413")]
    {
        assert!(ask(address, &text).starts_with(&format!("HTTP/1.1 {status} ")), "{text:.20}");
    }
    assert!(ended.try_recv().is_err());
    let answer = ask(address, &request("GET", &file.replace('@', "%40")));
    assert!(answer.contains("Content-Type: application/x-test\r\nContent-Length: 9\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\na profile"), "{answer}");
    assert!(ended.recv_timeout(Duration::from_secs(5)).unwrap());
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn slow_visitors_keep_nobody_waiting() {
    let (address, path, ended) = offer(Duration::from_secs(60));
    let slow: Vec<_> = (0..GUESTS - 1)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET ").unwrap();
            stream
        })
        .collect();
    // One of them asks for the file, and does not wait for it.
    let mut hasty = TcpStream::connect(address).unwrap();
    hasty.write_all(b"GET /x HTTP/1.1\r\n").unwrap();
    drop(hasty);
    let answer = (0..50).find_map(|_| {
        let answer = ask(address, &request("GET", &path));
        if answer.is_empty() {
            thread::sleep(Duration::from_millis(100));
        }
        Some(answer).filter(|answer| !answer.is_empty())
    });
    assert!(answer.unwrap().starts_with("HTTP/1.1 200 OK"));
    drop(slow);
    assert!(ask(address, &request("GET", &format!("{path}/a@b.mobileconfig"))).ends_with("a profile"));
    assert!(ended.recv_timeout(Duration::from_secs(5)).unwrap());
}

#[test]
fn an_offer_ends_with_its_time() {
    let (_, _, ended) = offer(Duration::from_millis(300));
    assert!(!ended.recv_timeout(Duration::from_secs(5)).unwrap());
}
