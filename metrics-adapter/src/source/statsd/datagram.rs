//! Receiving datagrams in batches, on a thread of its own.
//!
//! Receiving comes first: as long as a batch comes back full, further ones are moved to a bounded queue before
//! any is parsed, so that a burst waits in our memory rather than overrunning the kernel's.

use std::array;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::iter::Take;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::shutdown::Shutdown;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};
use socket2::Socket;

use super::shared::Shared;

/// Datagrams received with one call.
const BATCH: usize = 64;
/// Longest datagram, one byte more than UDP allows.
const LONGEST: usize = 65_536;
/// Bytes that may wait, however many datagrams that is.
const WAITING_BYTES: usize = 32 << 20;
/// How often a quiet thread looks whether it should end.
const PATIENCE: Duration = Duration::from_millis(250);

/// A datagram socket that is being read.
pub(super) struct Receiver {
    socket: OwnedFd,
    shared: Arc<Shared>,
    packets: fn(&Shared) -> &AtomicU64,
    queue: Queue,
    room: Box<[u8]>,
    lengths: [usize; BATCH],
}

impl Receiver {
    /// Reads a socket; up to `waiting` datagrams may wait for the parser.
    pub(super) fn new(
        socket: Socket,
        shared: Arc<Shared>,
        waiting: usize,
        packets: fn(&Shared) -> &AtomicU64,
    ) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket: socket.into(),
            shared,
            packets,
            queue: Queue { bytes: VecDeque::new(), lengths: VecDeque::new(), limit: waiting },
            room: vec![0; BATCH * LONGEST].into_boxed_slice(),
            lengths: [0; BATCH],
        })
    }

    /// Receives until shutdown. A failing socket is logged and tried again.
    pub(super) fn run(mut self, shutdown: &Shutdown) {
        // Holds raw pointers, so it lives and dies on this thread.
        let mut headers = MultiHeaders::preallocate(BATCH, None);
        while !shutdown.is_triggered() {
            match self.receive(&mut headers, MsgFlags::MSG_WAITFORONE) {
                Ok(received) => {
                    self.shared.packets((0..received).map(|at| self.packet(at)));
                    if received == BATCH {
                        self.burst(&mut headers);
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => {
                    tracing::warn!(%error, "receiving datagrams failed; trying again in 100 ms");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn packet(&self, at: usize) -> &[u8] {
        &self.room[at * LONGEST..][..self.lengths[at]]
    }

    fn receive(&mut self, headers: &mut MultiHeaders<()>, flags: MsgFlags) -> Result<usize, Errno> {
        let mut rooms = self.room.chunks_exact_mut(LONGEST);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
        let messages = recvmmsg(self.socket.as_raw_fd(), headers, slices.iter_mut(), flags, None)?;
        let mut received = 0;
        for (length, message) in self.lengths.iter_mut().zip(messages) {
            *length = message.bytes;
            received += 1;
        }
        (self.packets)(&self.shared).fetch_add(received as u64, Ordering::Relaxed);
        Ok(received)
    }

    /// Empties the socket into the queue, then works the queue off, emptying the socket again in between.
    fn burst(&mut self, headers: &mut MultiHeaders<()>) {
        loop {
            while let Ok(received) = self.receive(headers, MsgFlags::MSG_DONTWAIT) {
                let dropped = (0..received).filter(|at| {
                    let packet = &self.room[at * LONGEST..][..self.lengths[*at]];
                    !self.queue.push(packet)
                });
                let dropped = dropped.count() as u64;
                self.shared.traffic.udp_drops.fetch_add(dropped, Ordering::Relaxed);
                if received < BATCH || dropped > 0 {
                    break;
                }
            }
            self.shared.traffic.udp_waiting.store(self.queue.lengths.len(), Ordering::Relaxed);
            if self.queue.lengths.is_empty() {
                // Bursts are rare; what they needed goes back.
                self.queue.bytes = VecDeque::new();
                return;
            }
            self.queue.take(BATCH, |packets| self.shared.packets(packets));
        }
    }
}

/// Datagrams waiting for the parser, end to end.
struct Queue {
    bytes: VecDeque<u8>,
    lengths: VecDeque<usize>,
    limit: usize,
}

impl Queue {
    /// False when there is no room.
    fn push(&mut self, packet: &[u8]) -> bool {
        if self.lengths.len() >= self.limit || self.bytes.len() + packet.len() > WAITING_BYTES {
            return false;
        }
        self.bytes.extend(packet);
        self.lengths.push_back(packet.len());
        true
    }

    /// Hands over the first `number` datagrams and forgets them.
    fn take(&mut self, number: usize, each: impl FnOnce(Take<array::IntoIter<&[u8], BATCH>>)) {
        let number = number.min(self.lengths.len()).min(BATCH);
        let total: usize = self.lengths.iter().take(number).sum();
        if self.bytes.as_slices().0.len() < total {
            self.bytes.make_contiguous();
        }
        let (bytes, _) = self.bytes.as_slices();
        let mut at = 0;
        let lengths = &self.lengths;
        let packets: [&[u8]; BATCH] = array::from_fn(|index| {
            let length = lengths.get(index).filter(|_| index < number).copied().unwrap_or(0);
            at += length;
            &bytes[at - length..at]
        });
        // Only the first `number` are datagrams.
        let packets = packets.into_iter().take(number);
        each(packets);
        self.bytes.drain(..total);
        self.lengths.drain(..number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_keeps_datagrams_apart_and_is_bounded() {
        let mut queue = Queue { bytes: VecDeque::new(), lengths: VecDeque::new(), limit: 200 };
        let pushed = (0..300).filter(|n: &usize| queue.push(n.to_string().as_bytes())).count();
        assert_eq!(pushed, 200);
        let mut seen = Vec::new();
        while !queue.lengths.is_empty() {
            queue.take(BATCH, |packets| seen.extend(packets.map(|p| String::from_utf8(p.to_vec()).unwrap())));
            if seen.len() == BATCH {
                assert!(queue.push(b"late"));
            }
        }
        let expected: Vec<String> = (0..200).map(|n| n.to_string()).chain(["late".to_owned()]).collect();
        assert_eq!(seen, expected);
        assert!(queue.bytes.is_empty());
    }
}
