//! Clients that send garbage or go away, and servers that answer nonsense: the culprit is dropped, nobody else notices.

use crate::harness::{Ambassador, Client, Server, Value, encode, eventually};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// What [`liar`] answers to a request about the key `lie:N`.
fn lies() -> Vec<Vec<u8>> {
    let mut lies: Vec<Vec<u8>> = [
        &b"\x00\xff\x80garbage"[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$-5\r\n",
        b"$99999999999999999999\r\n",
        b"*-7\r\n",
        b"*9999999999999999\r\n",
        b".\r\n",
        b"$3\r\nabcdef\r\n",
        b"+x\ry\r\n",
        // More than was asked for, also out of band.
        b"$1\r\nx\r\n+and more\r\n",
        b">2\r\n+invalidate\r\n*-1\r\n>1\r\n+x\r\n+again\r\n+and again\r\n",
        // Half of an answer, and then nothing.
        b"$1000\r\nabc",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    // Nested too deep for anybody who recurses, and a line without an end.
    lies.push(b"*1\r\n".repeat(100_000));
    lies.push(b"*?\r\n".repeat(1000));
    lies.push([b"+".to_vec(), vec![b'x'; 3 << 20]].concat());
    lies
}

/// Stands before a server, and answers in its place what is about a lie; then it hangs up.
fn liar(server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { continue };
            let (mut back, mut there) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut back, &mut there);
                let _ = there.shutdown(std::net::Shutdown::Both);
            });
            std::thread::spawn(move || lie(client, upstream));
        }
    });
    port
}

fn lie(mut client: TcpStream, mut server: TcpStream) {
    let (mut chunk, lies) = (vec![0; 64 << 10], lies());
    while let Ok(count @ 1..) = client.read(&mut chunk) {
        let text = String::from_utf8_lossy(&chunk[..count]);
        let number =
            text.split("lie:").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
        let sent = match number.and_then(|number| lies.get(number)) {
            Some(lie) => client.write_all(lie).and(Err(std::io::ErrorKind::ConnectionAborted.into())),
            None => server.write_all(&chunk[..count]),
        };
        if sent.is_err() {
            break;
        }
    }
    let _ = server.shutdown(std::net::Shutdown::Both);
}

/// A primary and a replica, each behind a liar, and an ambassador in front.
fn behind_liars() -> (Server, Server, Ambassador) {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(&primary, &[]);
    let mut client = replica.client();
    eventually("the replica is in sync", || client.say("ROLE").contains(" connected "));
    let address = |port: u16| format!("127.0.0.1:{}", liar(port));
    let arguments = ["--primary", &address(primary.port), "--replica", &address(replica.port)];
    let ambassador = Ambassador::with_arguments(&arguments.map(str::to_owned));
    (primary, replica, ambassador)
}

#[test]
fn a_server_that_answers_nonsense_harms_nobody_else() {
    let (_primary, _replica, ambassador) = behind_liars();
    let mut bystander = ambassador.client();
    assert_eq!(bystander.say("SET truth 1"), "OK");
    for (number, lie) in lies().iter().enumerate() {
        for command in ["GET", "INCR"] {
            let mut client = ambassador.client();
            client.send(&format!("{command} lie:{number}"));
            // What a client gets of a lie is a value, an error or the end of its connection.
            let mut answer = Vec::new();
            client.stream.get_ref().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let _ = (&mut client.stream).take(1 << 20).read_to_end(&mut answer);
            let told = answer.is_empty() || lie.windows(answer.len()).any(|part| part == answer);
            let lost = answer.starts_with(b"-LOSTREPLY");
            assert!(told || lost || command == "GET", "{number}: {}", String::from_utf8_lossy(&answer));
            drop(client);
            assert_eq!(bystander.say("GET truth"), "1", "after {command} lie:{number}");
            assert_eq!(bystander.say("SET truth 1"), "OK", "after {command} lie:{number}");
        }
    }
    assert!(ambassador.memory() < 100 << 20, "{}", ambassador.memory());
}

/// Bytes without a meaning, the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Pieces of requests, in no good order.
    fn stream(&mut self) -> Vec<u8> {
        let pieces: [&[u8]; 16] = [
            b"*1\r\n",
            b"*2\r\n",
            b"$3\r\n",
            b"GET",
            b"\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"PING\r\n",
            b"$1000000\r\n",
            b"\0\xff\xfe",
            b"SET a b\r\n",
            b"\"",
            b"*1048576\r\n",
            b"MULTI\r\n",
            b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
            b"CLIENT REPLY OFF\r\n",
        ];
        let count = self.next() % 40;
        (0..count).flat_map(|_| pieces[(self.next() % pieces.len() as u64) as usize].to_vec()).collect()
    }
}

#[test]
fn garbage_and_clients_that_go_away_disturb_nobody() {
    let (_primary, _replica, ambassador) = behind_liars();
    let mut bystander = ambassador.client();
    bystander.send_words(&[b"SET", b"big", &vec![b'x'; 4 << 20]]);
    assert_eq!(bystander.read(), Value::Simple("OK".into()));
    let mut noise = Noise(0x5eed);
    for round in 0..300 {
        let mut client = Client::connect(ambassador.port);
        let stream = match round % 3 {
            0 => noise.stream(),
            // It leaves while it is being answered.
            1 => encode(&[b"GET", b"big"]).repeat(4),
            // It leaves in the middle of a request that is already on its way.
            _ => b"*3\r\n$3\r\nSET\r\n$1\r\nh\r\n$1000000\r\nhalf".to_vec(),
        };
        let _ = client.stream.get_mut().write_all(&stream);
        drop(client);
        if round % 20 == 0 {
            assert_eq!(bystander.say("PING"), "PONG");
            assert_eq!(bystander.say("STRLEN big"), (4 << 20).to_string());
        }
    }
    assert_eq!(bystander.say("EXISTS h"), "0");
    eventually("only the bystander is left", || ambassador.metric("redis_ambassador_clients") == 1.0);
    assert!(ambassador.memory() < 150 << 20, "{}", ambassador.memory());
}
