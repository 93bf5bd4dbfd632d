//! A proxy that speaks HTTP (forwarding and tunnels) and SOCKS 5, and notes what it was asked.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

#[derive(Clone)]
pub struct Proxy {
    pub port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { port: listener.local_addr().unwrap().port(), heads: Arc::default() };
        let shared = proxy.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(client));
            }
        });
        proxy
    }

    /// What it was asked so far: heads of HTTP requests, addresses of SOCKS ones.
    pub fn asked(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn note(&self, head: String) {
        self.heads.lock().unwrap().push(head);
    }

    fn serve(&self, mut client: TcpStream) -> Option<()> {
        let mut first = [0];
        client.peek(&mut first).ok()?;
        if first[0] == 5 {
            return self.socks(client);
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        self.note(text.clone());
        let target = text.split(' ').nth(1)?;
        match text.starts_with("CONNECT ") {
            true => {
                let server = TcpStream::connect(target).ok()?;
                client.write_all(b"HTTP/1.1 200 fine\r\n\r\n").ok()?;
                splice(client, server);
            }
            false => {
                let address = target.strip_prefix("http://")?.split('/').next()?;
                let mut server = TcpStream::connect(address).ok()?;
                server.write_all(&head).ok()?;
                splice(client, server);
            }
        }
        Some(())
    }

    fn socks(&self, mut client: TcpStream) -> Option<()> {
        let mut greeting = [0; 2];
        client.read_exact(&mut greeting).ok()?;
        let mut methods = vec![0; greeting[1].into()];
        client.read_exact(&mut methods).ok()?;
        client.write_all(&[5, 0]).ok()?;
        let mut request = [0; 4];
        client.read_exact(&mut request).ok()?;
        let host = match request[3] {
            1 => {
                let mut ip = [0; 4];
                client.read_exact(&mut ip).ok()?;
                std::net::Ipv4Addr::from(ip).to_string()
            }
            _ => {
                let mut length = [0];
                client.read_exact(&mut length).ok()?;
                let mut name = vec![0; length[0].into()];
                client.read_exact(&mut name).ok()?;
                String::from_utf8(name).ok()?
            }
        };
        let mut port = [0; 2];
        client.read_exact(&mut port).ok()?;
        let address = format!("{host}:{}", u16::from_be_bytes(port));
        self.note(format!("SOCKS {address}"));
        let server = TcpStream::connect(address).ok()?;
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
        splice(client, server);
        Some(())
    }
}

fn splice(client: TcpStream, server: TcpStream) {
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (server, client);
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
