//! The load generator: paced UDP packets in batches, and the loop that only receives them.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

/// Packets per system call.
const BATCH: usize = 64;

/// Lines with tags, over and over.
pub(super) struct Lines(Vec<String>);

impl Lines {
    pub(super) fn new(series: usize) -> Self {
        let kinds = ["1|c", "0.5|g", "3|c|@0.5"];
        let line = |n: usize| {
            let kind = kinds[n % 3];
            let value = ["requests", "requests.load", "requests"][n % 3];
            format!(
                "bench.service{}.{value}.route{n}:{kind}|#env:production,zone:eu-west-1{}",
                n % 10,
                "abc".as_bytes()[n % 3] as char
            )
        };
        // The gauges go under a name of their own, so that no type conflicts.
        Self((0..series).map(line).collect())
    }

    /// So many lines, each with its line feed.
    pub(super) fn block(&self, lines: usize) -> Vec<u8> {
        let text: String = self.0.iter().cycle().take(lines).flat_map(|line| [line.as_str(), "\n"]).collect();
        text.into_bytes()
    }

    fn packets(&self, per_packet: usize) -> Vec<Vec<u8>> {
        let mut lines = self.0.iter().cycle();
        let packet = |_| {
            let lines: Vec<&str> = lines.by_ref().take(per_packet).map(String::as_str).collect();
            lines.join("\n").into_bytes()
        };
        (0..self.0.len().max(BATCH)).map(packet).collect()
    }
}

/// What was sent.
pub(super) struct Sent {
    pub(super) lines: u64,
    pub(super) elapsed: Duration,
}

/// Sends at a rate in lines a second, as far as the machine allows.
pub(super) fn send(port: u16, lines: &Lines, per_packet: usize, rate: u64, span: Duration) -> Result<Sent> {
    let packets = lines.packets(per_packet);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    let batch = BATCH.min((rate as usize / per_packet / 500).max(1));
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(batch, None);
    let mut next = packets.iter().cycle();
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed() < span {
        let due = start.elapsed().as_secs_f64() * rate as f64;
        if (sent as f64) > due {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        let slices: Vec<[IoSlice<'_>; 1]> =
            next.by_ref().take(batch).map(|packet| [IoSlice::new(packet)]).collect();
        let nowhere = vec![None::<SockaddrIn>; batch];
        let done = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, nowhere, [], MsgFlags::empty())?;
        sent += (done.count() * per_packet) as u64;
    }
    Ok(Sent { lines: sent, elapsed: start.elapsed() })
}

/// CPU microseconds per line of a loop that receives the same packets and does nothing with them.
pub(super) fn floor(lines: &Lines, per_packet: usize, rate: u64, span: Duration) -> Result<f64> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let port = socket.local_addr()?.port();
    let stop = AtomicBool::new(false);
    let (packets, cpu) = std::thread::scope(|scope| -> Result<(u64, f64)> {
        let loop_ = scope.spawn(|| receive(&socket, &stop));
        send(port, lines, per_packet, rate, span)?;
        std::thread::sleep(Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
        loop_.join().ok().context("the receiving loop failed")?
    })?;
    Ok(cpu * 1e6 / (packets.max(1) * per_packet as u64) as f64)
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
