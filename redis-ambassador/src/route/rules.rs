//! What the configuration says about servers by name: weights and zones. Pure.

use super::{Candidate, Policy};
use crate::address::ServerAddr;
use common::config::FromSetting;

/// Something that holds for the servers whose address fits a pattern: `host:port`, `host`, or either with `*` for any
/// number of characters.
///
/// ```
/// use redis_ambassador::{FromSetting as _, Rule};
///
/// let rule = Rule::<u32>::from_setting("10.0.1.*=5")?;
/// assert_eq!(rule.value, 5);
/// assert!(rule.fits(&"10.0.1.7:6379".parse().unwrap()));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule<T> {
    pattern: String,
    /// What holds.
    pub value: T,
}

impl<T> Rule<T> {
    /// Whether it is about a server.
    ///
    /// ```
    /// use redis_ambassador::{FromSetting as _, Rule};
    ///
    /// let everywhere = Rule::<u32>::from_setting("*=1")?;
    /// assert!(everywhere.fits(&"10.0.1.7:6379".parse().unwrap()));
    /// # Ok::<(), String>(())
    /// ```
    pub fn fits(&self, address: &ServerAddr) -> bool {
        let host = match address {
            ServerAddr::Tcp { host, .. } => host.as_str(),
            ServerAddr::Unix(_) => "",
        };
        fits(&self.pattern, &address.to_string()) || (!host.is_empty() && fits(&self.pattern, host))
    }
}

fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|start| text.strip_prefix(start)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(end) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(end)
}

fn split<'a>(text: &'a str, what: &str) -> Result<(&'a str, &'a str), String> {
    match text.rsplit_once('=') {
        Some((pattern, value)) if !pattern.is_empty() && !value.is_empty() => Ok((pattern, value)),
        _ => Err(format!(
            "`{text}`: write ADDRESS={what}, for example 10.0.0.2:6379={what} or 10.0.1.*={what}"
        )),
    }
}

impl FromSetting for Rule<u32> {
    fn from_setting(text: &str) -> Result<Self, String> {
        let (pattern, value) = split(text, "3")?;
        match value.parse() {
            Ok(value @ 0..=100) => Ok(Self { pattern: pattern.to_owned(), value }),
            _ => Err(format!("`{text}`: a weight is a number from 0 to 100")),
        }
    }
}

impl FromSetting for Rule<String> {
    fn from_setting(text: &str) -> Result<Self, String> {
        let (pattern, value) = split(text, "ZONE")?;
        Ok(Self { pattern: pattern.to_owned(), value: value.to_owned() })
    }
}

/// How reads are spread.
///
/// ```
/// # let mut config = redis_ambassador::Config::new("10.0.0.1:6379".parse()?, vec![]);
/// use redis_ambassador::{FromSetting as _, Policy, ReadRules, Rule};
///
/// config.reads = ReadRules {
///     policy: Policy::Zone,
///     zone: Some("a".into()),
///     zones: vec![Rule::from_setting("10.0.1.*=a").unwrap(), Rule::from_setting("*=b").unwrap()],
///     weights: vec![],
/// };
/// # Ok::<(), redis_ambassador::InvalidAddr>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadRules {
    /// Among which replicas, in which order.
    pub policy: Policy,
    /// Where this ambassador is.
    pub zone: Option<String>,
    /// Weights; the first that fits counts, and 1 where none does.
    pub weights: Vec<Rule<u32>>,
    /// Zones; the first that fits counts.
    pub zones: Vec<Rule<String>>,
}

impl ReadRules {
    /// What the rules say of a server; nothing is known of its speed.
    #[doc(hidden)]
    pub fn candidate(&self, server: usize, address: &ServerAddr) -> Candidate {
        let zone = self.zones.iter().find(|rule| rule.fits(address)).map(|rule| &rule.value);
        Candidate {
            server,
            weight: self.weights.iter().find(|rule| rule.fits(address)).map_or(1, |rule| rule.value),
            local: zone.is_some() && zone == self.zone.as_ref(),
            distance: None,
            latency: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_addresses_and_hosts() {
        for (pattern, yes, no) in [
            ("10.0.0.1:6379", "10.0.0.1:6379", "10.0.0.1:6380"),
            ("10.0.0.1", "10.0.0.1:6379", "10.0.0.11:6379"),
            ("10.0.1.*", "10.0.1.7:1", "10.0.2.7:1"),
            ("*.a.example", "x.a.example:1", "x.b.example:1"),
            ("*:6380", "h:6380", "h:6379"),
            ("r*.z1.*:1", "r1.z1.example:1", "p1.z1.example:1"),
            ("unix:/run/*", "unix:/run/redis.sock", "h:1"),
            ("*", "h:1", ""),
        ] {
            let rule = Rule { pattern: pattern.to_owned(), value: 1 };
            assert!(rule.fits(&yes.parse().unwrap()), "{pattern} {yes}");
            assert!(no.is_empty() || !rule.fits(&no.parse().unwrap()), "{pattern} {no}");
        }
    }

    #[test]
    fn rules_are_read() {
        let rules = ReadRules {
            zone: Some("a".to_owned()),
            weights: vec![Rule::from_setting("h:1=0").unwrap(), Rule::from_setting("h=5").unwrap()],
            zones: vec![Rule::from_setting("h:2=a").unwrap()],
            ..ReadRules::default()
        };
        let about = |text: &str| rules.candidate(0, &text.parse().unwrap());
        assert_eq!((about("h:1").weight, about("h:2").weight, about("i:1").weight), (0, 5, 1));
        assert!(about("h:2").local && !about("h:1").local);
        for wrong in ["", "h", "=1", "h=", "h=x", "h=101"] {
            assert!(Rule::<u32>::from_setting(wrong).is_err(), "{wrong}");
        }
    }
}
