//! A small LFS server over real HTTP: batch API, basic transfers, basic auth, and the ways in which a server
//! can fail. Objects lie on "another host" (a second port) that wants the header given with the action.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;

/// What the storage does to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Half of it, then the connection ends.
    Truncated,
    /// As long as it should be, but something else.
    Corrupt,
    /// Some bytes too many.
    TooLong,
    Status(u16),
    /// Ignores what range was asked for, and says so.
    WholeInstead,
    /// Answers with a range that nobody asked for.
    WrongRange,
    /// To the batch request: no such object.
    NotThere,
    /// To the batch request: an action whose time is over.
    Expired,
}

#[derive(Default)]
struct State {
    objects: HashMap<String, Vec<u8>>,
    faults: HashMap<String, Vec<Fault>>,
    batch_faults: Vec<u16>,
    /// Request line and headers, with the port's name before them.
    log: Vec<String>,
}

#[derive(Clone)]
pub struct Lfs {
    pub api: u16,
    pub storage: u16,
    state: Arc<Mutex<State>>,
}

pub const LOGIN: (&str, &str) = ("user", "secret word");
const KEY: &str = "S3CR3T-STORAGE-KEY";

struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Lfs {
    pub fn start() -> Self {
        let (api, storage) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let lfs = Self { api: port(&api), storage: port(&storage), state: Arc::default() };
        for (listener, name) in [(api, "api"), (storage, "storage")] {
            let lfs = lfs.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let lfs = lfs.clone();
                    std::thread::spawn(move || lfs.serve(stream, name));
                }
            });
        }
        lfs
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/lfs", self.api)
    }

    pub fn oids(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    /// The next requests for an object go wrong like this.
    pub fn fail(&self, oid: &str, faults: &[Fault]) {
        self.state.lock().unwrap().faults.insert(oid.to_owned(), faults.to_vec());
    }

    /// The next batch requests get these statuses.
    pub fn fail_batch(&self, statuses: &[u16]) {
        self.state.lock().unwrap().batch_faults = statuses.to_vec();
    }

    pub fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }

    pub fn forget_log(&self) {
        self.state.lock().unwrap().log.clear();
    }

    fn fault(&self, oid: &str, at_batch: bool) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        let faults = state.faults.get_mut(oid)?;
        let is_batch = |fault: &Fault| matches!(fault, Fault::NotThere | Fault::Expired);
        (is_batch(faults.first()?) == at_batch).then(|| faults.remove(0))
    }

    fn serve(&self, mut stream: TcpStream, name: &str) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (mut headers, mut log) = (HashMap::new(), format!("{name} {}", line.trim()));
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            log.push_str(&format!("\n{}: {value}", name.to_ascii_lowercase()));
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        self.state.lock().unwrap().log.push(log);
        let length = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let request = Request { method, path, headers, body };
        let answer = if name == "api" { self.api(&request) } else { self.storage(&request) };
        stream.write_all(&answer).ok()
    }

    fn api(&self, request: &Request) -> Vec<u8> {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", LOGIN.0, LOGIN.1));
        if request.headers.get("authorization") != Some(&format!("Basic {pair}")) {
            return answer(401, "LFS-Authenticate: Basic realm=\"x\"\r\n", b"{}");
        }
        if !request.path.ends_with("/objects/batch") {
            return answer(404, "", b"{}");
        }
        let mut state = self.state.lock().unwrap();
        if !state.batch_faults.is_empty() {
            let status = state.batch_faults.remove(0);
            return answer(status, "Retry-After: 0\r\n", b"{}");
        }
        drop(state);
        let question: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let operation = question["operation"].as_str().unwrap();
        let objects: Vec<_> = question["objects"]
            .as_array()
            .unwrap()
            .iter()
            .map(|object| {
                let oid = object["oid"].as_str().unwrap();
                let known = self.state.lock().unwrap().objects.contains_key(oid);
                let fault = self.fault(oid, true);
                let missing = operation == "download" && (!known || fault == Some(Fault::NotThere));
                if missing {
                    return serde_json::json!({ "oid": oid, "size": object["size"],
                    "error": { "code": 404, "message": "Object does not exist" } });
                }
                if operation == "upload" && known {
                    return serde_json::json!({ "oid": oid, "size": object["size"] });
                }
                let name = if fault == Some(Fault::Expired) { "stale" } else { "fresh" };
                let expires_at = if fault == Some(Fault::Expired) {
                    "2020-01-01T00:00:00Z"
                } else {
                    "2099-01-01T00:00:00Z"
                };
                serde_json::json!({ "oid": oid, "size": object["size"], "actions": { operation: {
                "href": format!("http://127.0.0.1:{}/{name}/{oid}?signature=S3CR3T-QUERY", self.storage),
                "header": { "X-Key": KEY }, "expires_at": expires_at } } })
            })
            .collect();
        let body = serde_json::json!({ "transfer": "basic", "objects": objects }).to_string();
        answer(200, "Content-Type: application/vnd.git-lfs+json\r\n", body.as_bytes())
    }

    fn storage(&self, request: &Request) -> Vec<u8> {
        let oid = request.path.split(['/', '?']).nth(2).unwrap().to_owned();
        // An address of somebody else's: the key is what counts, and the git password must not come here.
        if request.headers.get("x-key").map(String::as_str) != Some(KEY)
            || request.headers.contains_key("authorization")
            || request.path.starts_with("/stale/")
        {
            return answer(403, "", b"");
        }
        if request.method == "PUT" {
            self.state.lock().unwrap().objects.insert(oid, request.body.clone());
            return answer(200, "", b"");
        }
        let fault = self.fault(&oid, false);
        let whole = self.state.lock().unwrap().objects[&oid].clone();
        let start: usize = request
            .headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok())
            .unwrap_or(0);
        match fault {
            Some(Fault::Status(status)) => answer(status, "Retry-After: 0\r\n", b""),
            Some(Fault::Truncated) => {
                let mut bytes = answer(200, "", &whole);
                bytes.truncate(bytes.len() - whole.len() / 2);
                bytes
            }
            Some(Fault::Corrupt) => answer(200, "", &whole.iter().map(|byte| !byte).collect::<Vec<_>>()),
            Some(Fault::TooLong) => answer(200, "", &[&whole[..], b"more"].concat()),
            Some(Fault::WrongRange) => {
                let range = format!("Content-Range: bytes 0-{}/{}\r\n", whole.len() - 1, whole.len());
                answer(206, &range, &whole)
            }
            Some(Fault::WholeInstead) => answer(200, "", &whole),
            _ if start > 0 => {
                let range = format!("Content-Range: bytes {start}-{}/{}\r\n", whole.len() - 1, whole.len());
                answer(206, &range, &whole[start..])
            }
            _ => answer(200, "", &whole),
        }
    }
}

fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
