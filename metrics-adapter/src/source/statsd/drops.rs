//! What the kernel dropped because a socket's buffer was full.

use std::os::fd::AsFd;

/// Which sockets to look for: their inodes.
#[derive(Clone, Debug, Default)]
pub(super) struct KernelDrops {
    inodes: Vec<u64>,
}

impl KernelDrops {
    /// Adds a UDP socket.
    pub(super) fn watch(&mut self, socket: impl AsFd) {
        if let Ok(stat) = nix::sys::stat::fstat(socket) {
            self.inodes.push(stat.st_ino);
        }
    }

    /// Datagrams dropped so far, as `/proc/net/udp` and `/proc/net/udp6` say; `None` where they cannot be read.
    pub(super) fn total(&self) -> Option<u64> {
        let tables: Vec<String> = ["/proc/net/udp", "/proc/net/udp6"]
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .collect();
        let found = tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(parse);
        let ours: Vec<u64> =
            found.filter(|(inode, _)| self.inodes.contains(inode)).map(|(_, drops)| drops).collect();
        (!ours.is_empty()).then(|| ours.iter().sum())
    }
}

/// Inode and drops of one line: the tenth and the last of its columns.
fn parse(line: &str) -> Option<(u64, u64)> {
    let columns: Vec<&str> = line.split_ascii_whitespace().collect();
    Some((columns.get(9)?.parse().ok()?, columns.get(12)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_line() {
        let line = "  104: 0100007F:23A5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 71123 2 0000000000000000 17";
        assert_eq!(parse(line), Some((71123, 17)));
        assert_eq!(parse("garbage"), None);
    }

    #[test]
    fn a_full_socket_is_seen() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut drops = KernelDrops::default();
        drops.watch(&socket);
        assert_eq!(drops.total(), Some(0));
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..20_000 {
            sender.send_to(&[0; 1000], socket.local_addr().unwrap()).unwrap();
        }
        assert!(drops.total().unwrap() > 0);
    }
}
