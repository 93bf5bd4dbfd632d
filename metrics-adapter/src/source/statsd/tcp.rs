//! StatsD lines over TCP connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::shutdown::Shutdown;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::shared::Shared;
use crate::statsd::frame::Lines;

/// Connections at one time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 4096;
/// Bytes read at once.
const PIECE: usize = 32 << 10;

/// Accepts and reads connections until shutdown.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, shutdown: Shutdown) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (listener.accept().await, permit)
            } => accepted,
            () = shutdown.triggered() => return,
        };
        let (Ok((stream, peer)), permit) = accepted else {
            shared.traffic.tcp_errors.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("accepting a StatsD connection failed; trying again in 100 ms");
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        shared.traffic.tcp_connections.fetch_add(1, Ordering::Relaxed);
        let (shared, stop) = (Arc::clone(&shared), shutdown.clone());
        shutdown.spawn(async move {
            shared.traffic.tcp_open.fetch_add(1, Ordering::Relaxed);
            tokio::select! {
                outcome = read(stream, &shared) => if let Err(problem) = outcome {
                    tracing::debug!(%peer, %problem, "StatsD connection closed");
                },
                () = stop.triggered() => {}
            }
            shared.traffic.tcp_open.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
    }
}

/// Reads one connection to its end.
async fn read(mut stream: TcpStream, shared: &Shared) -> Result<(), String> {
    let mut lines = Lines::default();
    let mut piece = vec![0; PIECE];
    let mut whole = Vec::with_capacity(PIECE + 8192);
    loop {
        let read = match stream.read(&mut piece).await {
            Ok(read) => read,
            Err(error) => {
                shared.traffic.tcp_errors.fetch_add(1, Ordering::Relaxed);
                return Err(error.to_string());
            }
        };
        whole.clear();
        let mut keep = |line: &[u8]| {
            whole.extend_from_slice(line);
            whole.push(b'\n');
        };
        let framed = match read {
            0 => {
                lines.finish().into_iter().for_each(&mut keep);
                Ok(())
            }
            read => lines.push(&piece[..read], &mut keep),
        };
        if !whole.is_empty() {
            shared.lines(&whole);
        }
        if let Err(too_long) = framed {
            shared.traffic.tcp_too_long.fetch_add(1, Ordering::Relaxed);
            return Err(too_long.to_string());
        }
        if read == 0 {
            return Ok(());
        }
        // A flood on one connection must not keep the others from being read.
        tokio::task::consume_budget().await;
    }
}
