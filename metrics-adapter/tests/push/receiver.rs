//! A receiver that does what the test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to a request.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    Status(u16),
    /// The connection is closed without an answer.
    Close,
    /// There is no answer.
    Hang,
}

pub(crate) struct Request {
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Receiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Arc<Request>>>>,
}

impl Receiver {
    /// Answers with the script, and then with status 200.
    pub(crate) fn start(script: Vec<Then>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::default();
        let script = Arc::new(Mutex::new(script.into_iter()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, &script, &seen));
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/receive", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Arc<Request>> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, script: &Mutex<std::vec::IntoIter<Then>>, seen: &Mutex<Vec<Arc<Request>>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(request) = read(&mut reader) {
        let then = script.lock().unwrap().next().unwrap_or(Then::Status(200));
        seen.lock().unwrap().push(Arc::new(request));
        match then {
            Then::Status(status) => {
                let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Then::Close => return,
            Then::Hang => {
                // Until the client gives up.
                stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                let _ = reader.read(&mut [0]);
                return;
            }
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { head, body })
}
