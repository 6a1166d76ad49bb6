//! As much of WebDriver as driving a headless Chromium needs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(30);
/// How WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser, with chromedriver in front of it. Both end with it.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser in which these names lead to other addresses (`MAP name address`).
    pub fn start(resolver_rules: &str) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_suffix('.')?.rsplit_once("successfully on port ")?.1.parse().ok());
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self { driver, port: port.unwrap(), session: String::new(), _profile: profile };
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let rules = format!("--host-resolver-rules={resolver_rules}");
        let mut arguments = vec![profile.as_str(), &rules];
        // Root, a container without much shared memory, a certificate of our own, and nothing that calls home.
        arguments.extend([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--ignore-certificate-errors",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-proxy-server",
            "--window-size=900,900",
        ]);
        let made = browser.call(
            "POST",
            "/session",
            &json!({ "capabilities": { "alwaysMatch": {
                "goog:chromeOptions": { "args": arguments },
                "goog:loggingPrefs": { "browser": "ALL" },
            } } }),
        );
        browser.session = made["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    /// Opens an address, and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.command("POST", "/url", &json!({ "url": url }));
    }

    /// The address of the page.
    pub fn url(&self) -> String {
        self.command("GET", "/url", &Value::Null).as_str().unwrap().to_owned()
    }

    /// The text that a person sees; nothing while another page comes.
    pub fn text(&self) -> String {
        let script = json!({ "script": "return document.body.innerText", "args": [] });
        let path = format!("/session/{}/execute/sync", self.session);
        let (_, answer) = self.try_call("POST", &path, &script).unwrap();
        answer["value"].as_str().unwrap_or_default().to_owned()
    }

    /// Clicks on the first such element.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.command("POST", &format!("/element/{element}/click"), &json!({}));
    }

    /// Types into the first such element.
    pub fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.command("POST", &format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// The result of a script.
    pub fn evaluate(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The errors and warnings about pages below this address that the console got since the last call.
    pub fn console_errors(&self, page: &str) -> Vec<String> {
        let entries = self.command("POST", "/se/log", &json!({ "type": "browser" }));
        let entries = entries.as_array().unwrap().iter();
        entries
            .filter(|entry| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")))
            .map(|entry| entry["message"].as_str().unwrap().to_owned())
            .filter(|message| message.starts_with(page))
            .collect()
    }

    /// Writes pictures of the whole page below `target/screenshots`: light and dark, wide and as on a phone.
    pub fn screenshots(&self, name: &str) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        fs::create_dir_all(&directory).unwrap();
        for (scheme, width, kind) in [("light", 900, ""), ("dark", 900, "-dark"), ("light", 360, "-phone")] {
            self.devtools(
                "Emulation.setEmulatedMedia",
                &json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
            );
            let metrics =
                json!({ "width": width, "height": 700, "deviceScaleFactor": 1, "mobile": width < 500 });
            self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
            let overflow =
                "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(self.evaluate(overflow), json!(0), "{name}{kind} is wider than the window");
            let picture = self.devtools("Page.captureScreenshot", &json!({ "captureBeyondViewport": true }));
            let picture = decode(picture["data"].as_str().unwrap());
            fs::write(directory.join(format!("{name}{kind}.png")), picture).unwrap();
        }
        self.devtools("Emulation.clearDeviceMetricsOverride", &json!({}));
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": [] }));
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    fn element(&self, selector: &str) -> String {
        let found = self.command("POST", "/element", &json!({ "using": "css selector", "value": selector }));
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.try_call(method, path, body).unwrap();
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer["value"].clone()
    }

    fn try_call(&self, method: &str, path: &str, body: &Value) -> std::io::Result<(u16, Value)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all((head + &body).as_bytes())?;
        // The driver leaves the connection open whatever is asked for.
        let mut reader = BufReader::new(stream);
        let (mut line, mut status, mut length) = (String::new(), 0, 0);
        while reader.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
            let words = line.trim_end().to_ascii_lowercase();
            if let Some(code) = words.strip_prefix("http/1.1 ") {
                status = code.get(..3).and_then(|code| code.parse().ok()).unwrap_or_default();
            } else if let Some(count) = words.strip_prefix("content-length:") {
                length = count.trim().parse().unwrap_or_default();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok((status, serde_json::from_slice(&body)?))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser, then we end the driver.
        let _ = self.try_call("DELETE", &format!("/session/{}", self.session), &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Base64 without line breaks.
fn decode(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => u32::from(c - b'A'),
        b'a'..=b'z' => u32::from(c - b'a') + 26,
        b'0'..=b'9' => u32::from(c - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').collect();
    let group = |group: &[u8]| {
        let bits = group.iter().fold(0, |bits, c| bits << 6 | digit(*c)) << (6 * (4 - group.len()));
        bits.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}
