//! Sockets, bound and sized.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use common::config::ListenAddr;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Asked of the kernel when no size is set, as far as it allows: the socket's buffer is the first queue.
const WANTED_BUFFER: usize = 4 << 20;

/// Binds `count` UDP sockets to one address; more than one share it through `SO_REUSEPORT`.
///
/// # Errors
/// The name does not resolve, or the port is taken or not allowed; the text names the address.
pub(super) fn udp(address: &ListenAddr, count: usize, buffer: usize) -> io::Result<Vec<Socket>> {
    let first = first_udp(address, count > 1, buffer)?;
    let local = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(one_udp(&local, true, buffer)?);
    }
    Ok(sockets)
}

fn first_udp(address: &ListenAddr, share: bool, buffer: usize) -> io::Result<Socket> {
    let mut last = io::Error::other("it names no address");
    for candidate in address.candidates() {
        let resolved: Vec<SocketAddr> = match candidate.to_socket_addrs() {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                last = error;
                continue;
            }
        };
        for resolved in resolved {
            match one_udp(&resolved.into(), share, buffer) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
    }
    Err(io::Error::new(last.kind(), format!("cannot listen on UDP {address}: {last}")))
}

fn one_udp(address: &SockAddr, share: bool, buffer: usize) -> io::Result<Socket> {
    let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if share {
        socket.set_reuse_port(true)?;
    }
    size(&socket, buffer)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Sets the receive buffer: what is asked for, or as much as the kernel gives up to a good size.
pub(super) fn size(socket: &Socket, buffer: usize) -> io::Result<()> {
    if buffer > 0 {
        return socket.set_recv_buffer_size(buffer);
    }
    if socket.recv_buffer_size()? < WANTED_BUFFER {
        // The kernel silently caps this at net.core.rmem_max, which may be below its default.
        let before = socket.recv_buffer_size()?;
        socket.set_recv_buffer_size(WANTED_BUFFER)?;
        if socket.recv_buffer_size()? < before {
            socket.set_recv_buffer_size(before / 2)?;
        }
    }
    Ok(())
}
