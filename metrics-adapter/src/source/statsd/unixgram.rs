//! A unix datagram socket: a path, or an abstract name after `@`.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::listen;

/// A bound socket file; dropping it removes the file.
#[derive(Debug)]
pub(super) struct SocketFile(Option<PathBuf>);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Binds a name. A file that exists already is an error, also when it is a socket nobody reads.
///
/// # Errors
/// The path exists or cannot be made; the text names it.
pub(super) fn bind(name: &str, mode: Option<u32>, buffer: usize) -> io::Result<(Socket, SocketFile)> {
    let fail = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {name}: {error}"));
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None).map_err(fail)?;
    listen::size(&socket, buffer).map_err(fail)?;
    if let Some(hidden) = name.strip_prefix('@') {
        // A leading NUL byte makes the name abstract.
        socket.bind(&SockAddr::unix(format!("\0{hidden}")).map_err(fail)?).map_err(fail)?;
        return Ok((socket, SocketFile(None)));
    }
    let path = Path::new(name);
    if path.symlink_metadata().is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("cannot listen on {name}: it exists"),
        ));
    }
    socket.bind(&SockAddr::unix(path).map_err(fail)?).map_err(fail)?;
    let file = SocketFile(Some(path.to_owned()));
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(fail)?;
    }
    Ok((socket, file))
}
