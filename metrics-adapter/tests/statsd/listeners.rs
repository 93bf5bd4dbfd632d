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
