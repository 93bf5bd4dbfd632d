//! The load generator: paced UDP packets, and the loop that only receives them.
//!
//! Sender and receiver share two processors, so the sender has to be cheap: packets of one length are laid end to
//! end beforehand, and the kernel cuts them apart (`UDP_SEGMENT`). Over loopback that happens when the receiver's
//! socket is reached, so every packet is queued, counted and read on its own, as if it had been sent on its own.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmsg};

/// Packets per system call.
const BATCH: usize = 64;
/// Bytes per system call; a whole has to fit into the length of one UDP packet.
const WHOLE: usize = 60_000;

/// Lines over and over.
pub(super) struct Lines(Vec<String>);

impl Lines {
    /// Lines of so many series, with DogStatsD tags or without.
    pub(super) fn new(series: usize, tagged: bool) -> Self {
        let kinds = ["1|c", "0.5|g", "3|c|@0.5"];
        // The gauges go under a name of their own, so that no type conflicts.
        let names = ["requests", "requests.load", "requests"];
        let line = |n: usize| {
            let (kind, name) = (kinds[n % 3], names[n % 3]);
            let zone = char::from(b"abc"[n % 3]);
            let tags = format!("|#env:production,zone:eu-west-1{zone}");
            format!("bench.service{}.{name}.route{n:03}:{kind}{}", n % 10, if tagged { &tags } else { "" })
        };
        Self((0..series).map(line).collect())
    }

    /// So many lines, each with its line feed.
    pub(super) fn block(&self, lines: usize) -> Vec<u8> {
        let text: String = self.0.iter().cycle().take(lines).flat_map(|line| [line.as_str(), "\n"]).collect();
        text.into_bytes()
    }

    /// Packets in groups that one call can send.
    fn groups(&self, per_packet: usize) -> Vec<Group> {
        let mut lines = self.0.iter().cycle();
        let mut by_length: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for _ in 0..self.0.len() {
            let lines: Vec<&str> = lines.by_ref().take(per_packet).map(String::as_str).collect();
            let packet = lines.join("\n");
            by_length.entry(packet.len()).or_default().push(packet);
        }
        let groups = by_length.into_iter().flat_map(|(length, packets)| {
            let most = BATCH.min(WHOLE / length).max(1);
            let group = |packets: &[String]| Group {
                bytes: packets.concat().into_bytes(),
                length: length as u16,
                packets: packets.len(),
            };
            packets.chunks(most).map(group).collect::<Vec<_>>()
        });
        groups.collect()
    }
}

/// Packets of one length, end to end.
struct Group {
    bytes: Vec<u8>,
    length: u16,
    packets: usize,
}

/// What was sent.
pub(super) struct Sent {
    pub(super) lines: u64,
    pub(super) elapsed: Duration,
}

impl Sent {
    /// Lines a second.
    pub(super) fn rate(&self) -> f64 {
        self.lines as f64 / self.elapsed.as_secs_f64()
    }
}

/// Sends at a rate in lines a second, as far as the machine allows.
pub(super) fn send(port: u16, lines: &Lines, per_packet: usize, rate: u64, span: Duration) -> Result<Sent> {
    let groups = lines.groups(per_packet);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    let mut next = groups.iter().cycle();
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed() < span {
        let due = start.elapsed().as_secs_f64() * rate as f64;
        if (sent as f64) > due {
            std::thread::sleep(Duration::from_micros(100));
            continue;
        }
        let Some(group) = next.next() else { break };
        let cut = [ControlMessage::UdpGsoSegments(&group.length)];
        // A single packet needs no cutting, and the kernel refuses to.
        let cut = if group.packets > 1 { &cut[..] } else { &[] };
        let whole = [IoSlice::new(&group.bytes)];
        match sendmsg(socket.as_raw_fd(), &whole, cut, MsgFlags::empty(), None::<&SockaddrIn>) {
            Ok(_) => sent += (group.packets * per_packet) as u64,
            Err(Errno::ENOBUFS | Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Sent { lines: sent, elapsed: start.elapsed() })
}

/// What a loop took that receives packets and does nothing with them.
pub(super) struct Floor {
    /// CPU microseconds per line.
    pub(super) cpu: f64,
    /// The part of the packets it did not get.
    pub(super) lost: f64,
}

/// Measures that loop.
pub(super) fn floor(lines: &Lines, per_packet: usize, rate: u64, span: Duration) -> Result<Floor> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &(4 << 20))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let port = socket.local_addr()?.port();
    let stop = AtomicBool::new(false);
    let (packets, cpu, sent) = std::thread::scope(|scope| -> Result<(u64, f64, u64)> {
        let loop_ = scope.spawn(|| receive(&socket, &stop));
        let sent = send(port, lines, per_packet, rate, span)?;
        std::thread::sleep(Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
        let (packets, cpu) = loop_.join().ok().context("the receiving loop failed")??;
        Ok((packets, cpu, sent.lines))
    })?;
    let taken = packets * per_packet as u64;
    Ok(Floor { cpu: cpu * 1e6 / taken.max(1) as f64, lost: 1.0 - taken as f64 / sent.max(1) as f64 })
}

/// Receives until told to stop; packets and CPU seconds.
fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Result<(u64, f64)> {
    const ROOM: usize = 2048;
    let mut room = vec![0; BATCH * ROOM];
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    let mut packets = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            room.chunks_mut(ROOM).map(|room| [IoSliceMut::new(room)]).collect();
        let fd = socket.as_raw_fd();
        if let Ok(messages) = recvmmsg(fd, &mut headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None) {
            packets += messages.count() as u64;
        }
    }
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok((packets, seconds(usage.user_time()) + seconds(usage.system_time())))
}
