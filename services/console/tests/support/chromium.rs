//! A headless Chromium, spoken to by its developer protocol.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Names under which Chromium is installed.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Keeps the browser to itself: no first-run pages, no update, no sync, nothing in the background.
const FLAGS: [&str; 12] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--remote-debugging-port=0",
];

/// The longest a browser may take to answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// One browser with one page. It ends with this value.
pub struct Page {
    _browser: Browser,
    _profile: TempDir,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next: u64,
    events: VecDeque<Value>,
}

/// A process that ends with this value, whatever goes wrong meanwhile.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Page {
    /// Opens an empty page of `width` by `height`.
    pub async fn open(width: u32, height: u32) -> Self {
        let profile = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (browser, port) = launch(&profile);
        let target = new_target(port).await;
        let (socket, _) = tokio_tungstenite::connect_async(target).await.unwrap();
        let mut page = Self {
            _browser: browser,
            _profile: profile,
            socket,
            next: 0,
            events: VecDeque::new(),
        };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({})).await;
        }
        page.size(width, height).await;
        page
    }

    pub async fn size(&mut self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// `light` or `dark`, as the system would say.
    pub async fn prefers(&mut self, theme: &str) {
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
        self.call("Emulation.setEmulatedMedia", media).await;
    }

    pub async fn go(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
    }

    /// Value of an expression; a promise is awaited.
    pub async fn eval(&mut self, expression: &str) -> Value {
        let asked =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", asked).await;
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub async fn until(&mut self, expression: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.eval(expression).await != json!(true) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "never true: {expression}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The page as PNG.
    pub async fn picture(&mut self) -> Vec<u8> {
        let answer = self
            .call("Page.captureScreenshot", json!({ "format": "png" }))
            .await;
        decode(answer["data"].as_str().unwrap())
    }

    /// Events of `method` seen so far.
    pub fn seen(&self, method: &str) -> Vec<Value> {
        self.events
            .iter()
            .filter(|e| e["method"] == method)
            .map(|e| e["params"].clone())
            .collect()
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let asked = json!({ "id": self.next, "method": method, "params": params });
        self.socket
            .send(Message::text(asked.to_string()))
            .await
            .unwrap();
        tokio::time::timeout(PATIENCE, async {
            loop {
                let message = self.socket.next().await.expect("the browser left").unwrap();
                let Ok(text) = message.to_text() else {
                    continue;
                };
                let heard: Value = serde_json::from_str(text).unwrap();
                if heard["id"] == self.next {
                    assert!(heard.get("error").is_none(), "{method}: {heard}");
                    return heard["result"].clone();
                }
                self.events.push_back(heard);
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{method}: no answer within {PATIENCE:?}"))
    }
}

fn launch(profile: &TempDir) -> (Browser, u16) {
    let data = format!("--user-data-dir={}", profile.path().display());
    let start = |name: &&str| {
        let mut command = Command::new(name);
        command.args(FLAGS).arg(&data).arg("about:blank");
        command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()
            .map(Browser)
    };
    let mut browser = NAMES.iter().find_map(start).unwrap_or_else(|| {
        panic!("none of {NAMES:?} is installed; `cargo xtask test` installs chromium")
    });
    let mut lines = BufReader::new(browser.0.stderr.take().unwrap()).lines();
    let port = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| {
            line.split_once("DevTools listening on ws://127.0.0.1:")?
                .1
                .split('/')
                .next()?
                .parse()
                .ok()
        })
        .expect("Chromium names its port");
    // Its pipe must not fill up.
    std::thread::spawn(move || lines.for_each(drop));
    (browser, port)
}

/// Address of the websocket of the page that is open.
async fn new_target(port: u16) -> String {
    let list = get(&format!("127.0.0.1:{port}"), "/json/list").await;
    let list: Value = serde_json::from_str(&list).unwrap();
    let page = list
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["type"] == "page")
        .expect("one page is open");
    page["webSocketDebuggerUrl"].as_str().unwrap().to_owned()
}

async fn get(host: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = TcpStream::connect(host).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    // It may keep the connection open: the length says when all is there.
    loop {
        let n = socket.read(&mut part).await.unwrap();
        answer.extend_from_slice(&part[..n]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| {
                l.to_lowercase()
                    .strip_prefix("content-length:")?
                    .trim()
                    .parse()
                    .ok()
            });
            if n == 0 || length.is_some_and(|l: usize| body.len() >= l) {
                return body.to_owned();
            }
        }
        assert!(n > 0, "no answer from {host}{path}");
    }
}

/// Base 64 (RFC 4648) without line breaks.
fn decode(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let value = |c: u8| {
        ALPHABET
            .iter()
            .position(|a| *a == c)
            .and_then(|p| u32::try_from(p).ok())
    };
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.as_bytes().chunks(4) {
        let known: Vec<u32> = group.iter().filter_map(|c| value(*c)).collect();
        let bits = known.iter().fold(0, |bits, v| bits << 6 | v) << (6 * (4 - known.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..known.len()]);
    }
    bytes
}
