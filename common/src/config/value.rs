//! Typed values from setting text.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A type that a setting's text can be read as.
///
/// ```
/// use common::config::FromSetting;
///
/// #[derive(Debug, PartialEq)]
/// struct Percent(u8);
///
/// impl FromSetting for Percent {
///     fn from_setting(text: &str) -> Result<Self, String> {
///         let number = text.strip_suffix('%').and_then(|number| number.parse().ok());
///         number.map(Self).ok_or_else(|| format!("`{text}` is no percentage"))
///     }
/// }
/// assert_eq!(Percent::from_setting("5%"), Ok(Percent(5)));
/// ```
pub trait FromSetting: Sized {
    /// Reads the text.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what would be right.
    fn from_setting(text: &str) -> Result<Self, String>;
}

impl FromSetting for String {
    fn from_setting(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl FromSetting for PathBuf {
    fn from_setting(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

impl FromSetting for bool {
    /// The spellings of Go's `strconv.ParseBool`, which the peers take.
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(format!("`{text}` is neither true nor false")),
        }
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl FromSetting for $type {
            /// Decimal, `0x`, `0o`, `0b`, with `_` between digits, as Go reads integers with base 0.
            fn from_setting(text: &str) -> Result<Self, String> {
                let wide = integer(text)?;
                Self::try_from(wide).map_err(|_| {
                    format!("`{text}` is out of range ({} to {})", Self::MIN, Self::MAX)
                })
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, usize, i32, i64);

fn integer(text: &str) -> Result<i128, String> {
    let wrong = || format!("`{text}` is not a whole number");
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = rest.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    let underscores_ok = !digits.ends_with('_')
        && !digits.contains("__")
        && (!digits.starts_with('_') || radix != 10 || lower.starts_with('0'));
    if digits.is_empty() || digits.starts_with(['+', '-']) || !underscores_ok {
        return Err(wrong());
    }
    let value = i128::from_str_radix(&digits.replace('_', ""), radix).map_err(|_| wrong())?;
    Ok(if negative { -value } else { value })
}

impl FromSetting for f64 {
    fn from_setting(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is not a number"))
    }
}

impl FromSetting for Duration {
    fn from_setting(text: &str) -> Result<Self, String> {
        duration(text)
    }
}

/// Reads a duration as Go's `time.ParseDuration` does: `300ms`, `1.5h`, `2h45m`, a bare `0`.
///
/// # Errors
/// No unit, an unknown unit, a negative value, or more than about 292 years.
///
/// ```
/// use common::config::duration;
/// use std::time::Duration;
///
/// assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
/// assert!(duration("10").is_err(), "no unit");
/// ```
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration (write for example 10s, 250ms or 1h30m)");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.starts_with('-') {
        return Err(format!("`{text}`: a duration is not negative here"));
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit_nanos: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(wrong()),
        };
        nanos = nanos.saturating_add(scaled(number, unit_nanos).ok_or_else(wrong)?);
        rest = tail;
    }
    match i64::try_from(nanos) {
        Ok(nanos) => Ok(Duration::from_nanos(nanos.unsigned_abs())),
        Err(_) => Err(format!("`{text}` is longer than 292 years")),
    }
}

/// `number` (digits with at most one point) times `unit`, rounded down.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.get(..whole.len().min(30))?.parse().ok()? };
    let mut nanos = whole.saturating_mul(unit);
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        nanos = nanos.saturating_add(u128::from(digit - b'0') * place);
    }
    Some(nanos)
}

/// Writes a duration the way Go prints one: `1m30s`, `250ms`, `0s`.
///
/// ```
/// use common::config::format_duration;
/// use std::time::Duration;
///
/// assert_eq!(format_duration(Duration::from_secs(90)), "1m30s");
/// ```
#[must_use]
pub fn format_duration(value: Duration) -> String {
    let nanos = value.as_nanos();
    let trimmed = |unit: u128, name: &str| {
        let text = format!("{}.{:0width$}", nanos / unit, nanos % unit, width = unit.ilog10() as usize);
        format!("{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => trimmed(1_000, "µs"),
        1_000_000..1_000_000_000 => trimmed(1_000_000, "ms"),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = format_seconds(nanos % 60_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

fn format_seconds(nanos: u128) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// An address to listen on: `host:port`, `:port` for all interfaces, `[v6]:port`.
///
/// ```
/// use common::config::{FromSetting as _, ListenAddr};
///
/// let address = ListenAddr::from_setting(":9102")?;
/// assert_eq!(address.candidates(), ["[::]:9102", "0.0.0.0:9102"]);
/// assert_eq!(ListenAddr::loopback(0).to_string(), "127.0.0.1:0");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddr {
    /// Host name or address; empty means all interfaces.
    pub host: String,
    /// Port; 0 lets the system choose.
    pub port: u16,
}

impl ListenAddr {
    /// What to hand to a resolver: the host, or the address that means "all interfaces" (IPv6 with
    /// IPv4 mapped in where the system has IPv6).
    ///
    /// ```
    /// use common::config::ListenAddr;
    ///
    /// assert_eq!(ListenAddr::loopback(80).candidates(), ["127.0.0.1:80"]);
    /// ```
    #[must_use]
    pub fn candidates(&self) -> Vec<String> {
        if self.host.is_empty() {
            return vec![format!("[::]:{}", self.port), format!("0.0.0.0:{}", self.port)];
        }
        match self.host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, self.port).to_string()],
            Err(_) => vec![format!("{}:{}", self.host, self.port)],
        }
    }

    /// A loopback IPv4 address.
    ///
    /// ```
    /// let address = common::config::ListenAddr::loopback(6379);
    /// assert_eq!(address.to_string(), "127.0.0.1:6379");
    /// ```
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self { host: Ipv4Addr::LOCALHOST.to_string(), port }
    }
}

impl std::fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromSetting for ListenAddr {
    fn from_setting(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an address (write host:port, :port or [v6]:port)");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => inner,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        let port = port.parse().map_err(|_| format!("`{text}`: the port is a number from 0 to 65535"))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// A number of bytes: `512`, `64k`, `16MiB`, `1GB` (powers of 1024 whatever the spelling).
///
/// ```
/// use common::config::{ByteSize, FromSetting as _};
///
/// assert_eq!(ByteSize::from_setting("64k"), Ok(ByteSize(65_536)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromSetting for ByteSize {
    fn from_setting(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size (write for example 512, 64k, 16MiB)");
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            _ => return Err(wrong()),
        };
        number.checked_mul(1 << shift).map(Self).ok_or_else(wrong)
    }
}
