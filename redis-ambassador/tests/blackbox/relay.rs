//! A network that can be slow, or cut.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Copies bytes between whoever connects and a server.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) port: u16,
    delay: Arc<AtomicU64>,
    cut: Arc<AtomicBool>,
}

impl Relay {
    pub(crate) fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let relay = Self { port, delay: Arc::default(), cut: Arc::default() };
        let shared = relay.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                for stream in [&client, &server] {
                    let _ = stream.set_nodelay(true);
                }
                let (Ok(from), Ok(back)) = (client.try_clone(), server.try_clone()) else { continue };
                let (there, here) = (shared.clone(), shared.clone());
                std::thread::spawn(move || there.copy(client, server));
                std::thread::spawn(move || here.copy(back, from));
            }
        });
        relay
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Every piece of data takes so long from now on, in each direction.
    pub(crate) fn delay(&self, delay: Duration) {
        self.delay.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// Nothing gets through while it is cut; nobody is told.
    pub(crate) fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let due = Instant::now() + Duration::from_millis(self.delay.load(Ordering::SeqCst));
            while self.cut.load(Ordering::SeqCst) || Instant::now() < due {
                std::thread::sleep(Duration::from_millis(1));
            }
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    }
}
