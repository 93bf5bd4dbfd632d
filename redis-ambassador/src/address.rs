//! Where a Redis server is.

use common::config::FromSetting;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// `host:port`, `[v6]:port`, or `unix:/path`.
///
/// ```
/// use redis_ambassador::ServerAddr;
///
/// let server: ServerAddr = "[::1]:6379".parse()?;
/// assert_eq!(server, ServerAddr::Tcp { host: "::1".into(), port: 6379 });
/// assert_eq!("unix:/run/redis.sock".parse(), Ok(ServerAddr::Unix("/run/redis.sock".into())));
/// # Ok::<(), redis_ambassador::InvalidAddr>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerAddr {
    /// A TCP address; the name is resolved at every connect.
    Tcp {
        /// Host name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A unix stream socket.
    Unix(PathBuf),
}

/// Why a text is no server address.
///
/// ```
/// let error = "10.0.0.1".parse::<redis_ambassador::ServerAddr>().unwrap_err();
/// assert!(error.to_string().contains("host:port"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no server address (write host:port, [v6]:port or unix:/path)")]
pub struct InvalidAddr(String);

impl FromStr for ServerAddr {
    type Err = InvalidAddr;

    fn from_str(text: &str) -> Result<Self, InvalidAddr> {
        let invalid = || InvalidAddr(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(invalid()) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port: u16 = port.parse().map_err(|_| invalid())?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(host) => host,
            None if host.contains([':', '[', ']', '/']) => return Err(invalid()),
            None => host,
        };
        if host.is_empty() || port == 0 {
            return Err(invalid());
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromSetting for ServerAddr {
    fn from_setting(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: InvalidAddr| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_a_round_trip() {
        for text in ["localhost:6379", "10.0.0.1:1", "[::1]:6379", "unix:/run/redis.sock"] {
            assert_eq!(text.parse::<ServerAddr>().unwrap().to_string(), text);
        }
        for text in
            ["", "localhost", ":6379", "a:b", "a:0", "::1:6379", "unix:relative", "redis://a:1", "a:70000"]
        {
            assert!(text.parse::<ServerAddr>().is_err(), "{text}");
        }
    }
}
