//! UDP, TCP, unix datagram sockets, and the relay.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Adapter, BINARY, eventually};

#[test]
fn udp_takes_packets_of_lines() {
    let adapter = Adapter::start(&["--statsd.udp-sockets=2"]);
    adapter.send("requests:1|c\nrequests:2|c|@0.5|#code:200\nload:0.5|g\nlatency:320|ms");
    adapter.wait_for("requests", 1.0);
    adapter.wait_for("requests{code=\"200\"}", 4.0);
    adapter.wait_for("load", 0.5);
    adapter.wait_for("latency{quantile=\"0.99\"}", 0.32);
    adapter.send("x:1|c\n");
    adapter.wait_for("statsd_exporter_lines_total", 6.0);
    adapter.send("x:1|c\r");
    adapter.wait_for("statsd_exporter_sample_errors_total{reason=\"illegal_event\"}", 1.0);
    adapter.wait_for("statsd_exporter_udp_packets_total", 3.0);
    assert_eq!(adapter.value("statsd_exporter_udp_kernel_drops_total"), Some(0.0));
}

#[test]
fn tcp_takes_lines_in_any_pieces() {
    let adapter = Adapter::start(&[]);
    let mut stream = adapter.connect();
    stream.set_nodelay(true).unwrap();
    for byte in b"tcp.a:1|c\r\ntcp.a:2|c\n\nlast:7|g" {
        stream.write_all(&[*byte]).unwrap();
    }
    adapter.wait_for("tcp_a", 3.0);
    assert_eq!(adapter.value("last"), None);
    drop(stream);
    adapter.wait_for("last", 7.0);
    adapter.wait_for("statsd_exporter_tcp_connections_total", 1.0);
    adapter.wait_for("statsd_exporter_lines_total", 4.0);
}

#[test]
fn a_long_tcp_line_ends_only_its_connection() {
    let adapter = Adapter::start(&[]);
    let mut other = adapter.connect();
    let mut stream = adapter.connect();
    stream.write_all(b"ok:1|c\n").unwrap();
    stream.write_all(&vec![b'x'; 5000]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // Closed with data unread, so either the end or a reset.
    assert!(matches!(stream.read(&mut [0; 10]), Ok(0) | Err(_)));
    adapter.wait_for("statsd_exporter_tcp_too_long_lines_total", 1.0);
    adapter.wait_for("ok", 1.0);
    other.write_all(b"still:1|c\n").unwrap();
    adapter.wait_for("still", 1.0);
}

#[test]
fn unix_sockets_by_path_and_abstract_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("statsd.sock");
    let flag = format!("--statsd.listen-unixgram={}", path.display());
    let mut adapter = Adapter::start(&[&flag, "--statsd.unixsocket-mode=770"]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o770);
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(b"unix.path:1|c", &path).unwrap();
    adapter.wait_for("unix_path", 1.0);
    adapter.wait_for("statsd_exporter_unixgram_packets_total", 1.0);

    let second = Command::new(BINARY)
        .args([
            "statsd",
            &flag,
            "--web.listen-address=127.0.0.1:0",
            "--statsd.listen-udp=",
            "--statsd.listen-tcp=",
        ])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("it exists"), "{second:?}");

    adapter.signal("-TERM");
    assert!(adapter.wait().success());
    assert!(!path.exists());

    let name = format!("metrics-adapter-test-{}", std::process::id());
    let adapter = Adapter::start(&[&format!("--statsd.listen-unixgram=@{name}")]);
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    sender.send_to_addr(b"unix.abstract:1|c", &address).unwrap();
    adapter.wait_for("unix_abstract", 1.0);
}

#[test]
fn every_line_is_relayed_as_it_came() {
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    target.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let address = target.local_addr().unwrap().to_string();
    let flags = [format!("--statsd.relay.address={address}"), "--statsd.relay.packet-length=20".to_owned()];
    let adapter = Adapter::start(&[&flags[0], &flags[1]]);
    adapter.send("a:1|c\n\nbroken line\nlonger.than.the.packet:1|c\nb:2|c|#x:y");
    let mut received = String::new();
    let mut room = [0; 100];
    while received.len() < 29 {
        let length = target.recv(&mut room).unwrap();
        assert!(length <= 20);
        received.push_str(std::str::from_utf8(&room[..length]).unwrap());
    }
    assert_eq!(received, "a:1|c\nbroken line\nb:2|c|#x:y\n");
    adapter.wait_for(&format!("statsd_exporter_relay_long_lines_total{{target=\"{address}\"}}"), 1.0);
    adapter.wait_for(&format!("statsd_exporter_relay_lines_relayed_total{{target=\"{address}\"}}"), 3.0);
    eventually("two packets", || {
        adapter
            .value(&format!("statsd_exporter_relay_packets_total{{target=\"{address}\"}}"))
            .filter(|n| *n >= 2.0)
    });
}

#[test]
fn all_listeners_are_relayed_within_a_second() {
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    target.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let name = format!("metrics-adapter-relay-{}", std::process::id());
    let flags = [
        format!("--statsd.relay.address={}", target.local_addr().unwrap()),
        format!("--statsd.listen-unixgram=@{name}"),
    ];
    let adapter = Adapter::start(&[&flags[0], &flags[1]]);
    adapter.send("udp:1|c");
    let mut stream = adapter.connect();
    stream.write_all(b"tcp.one:1|c\r\ntcp.two").unwrap();
    stream.write_all(b":2|c\n").unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to_addr(b"unix:1|c", &SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let mut received = String::new();
    let mut room = [0; 1500];
    while received.lines().count() < 4 {
        let length = target.recv(&mut room).unwrap();
        received.push_str(std::str::from_utf8(&room[..length]).unwrap());
    }
    let mut lines: Vec<&str> = received.lines().map(str::trim_end).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["tcp.one:1|c", "tcp.two:2|c", "udp:1|c", "unix:1|c"]);
}

#[test]
fn a_relay_target_that_comes_late_gets_what_comes_later() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let adapter =
        Adapter::start(&[&format!("--statsd.relay.address={port}"), "--statsd.relay.packet-length=12"]);
    // Nobody listens: the kernel says so on a later packet. Lines are taken all the while.
    eventually("an error of the relay", || {
        adapter.send("early:1|c\nearly:1|c");
        let errors = format!("statsd_exporter_relay_errors_total{{target=\"{port}\"}}");
        adapter.value(&errors).filter(|errors| *errors > 0.0)
    });
    assert!(adapter.value("early").unwrap() >= 2.0);
    let target = UdpSocket::bind(port).unwrap();
    target.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut room = [0; 100];
    eventually("a line at the target", || {
        adapter.send("late:1|c\nlate:1|c");
        let length = target.recv(&mut room).ok()?;
        room[..length].starts_with(b"late:1|c\n").then_some(())
    });
}
