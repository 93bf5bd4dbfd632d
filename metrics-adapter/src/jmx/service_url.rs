//! JMX service URLs of the RMI connector.
//!
//! Source: the API documentation of `javax.management.remote.rmi`. Only the form every JVM prints is a
//! network address of a registry: `service:jmx:rmi:///jndi/rmi://host:port/name`, with an optional ignored
//! host before `/jndi/`.

use thiserror::Error;

/// A registry entry.
///
/// ```
/// use metrics_adapter::jmx::RegistryAddress;
///
/// let address = RegistryAddress::from_service_url("service:jmx:rmi:///jndi/rmi://jvm:9010/jmxrmi")?;
/// assert_eq!(address, RegistryAddress::new("jvm", 9010));
/// # Ok::<(), metrics_adapter::jmx::ServiceUrlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryAddress {
    /// Host name or address, without brackets.
    pub host: String,
    /// Registry port, 1099 when the URL has none.
    pub port: u16,
    /// Name under which the connector server is bound, usually `jmxrmi`.
    pub name: String,
}

/// Why a service URL cannot be used.
///
/// ```
/// use metrics_adapter::jmx::RegistryAddress;
///
/// let error = RegistryAddress::from_service_url("http://jvm:9010/").unwrap_err();
/// assert!(error.to_string().contains("service:jmx:"));
/// ```
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{url}` is not a usable JMX service URL: {why}")]
pub struct ServiceUrlError {
    url: String,
    why: String,
}

impl RegistryAddress {
    /// The connector server of a JVM started with `-Dcom.sun.management.jmxremote.port`.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, name: "jmxrmi".to_owned() }
    }

    /// Reads a service URL.
    ///
    /// # Errors
    /// Another protocol than `rmi`, a stub inside the URL, or an address that is none.
    pub fn from_service_url(url: &str) -> Result<Self, ServiceUrlError> {
        let refuse = |why: &str| ServiceUrlError { url: url.to_owned(), why: why.to_owned() };
        let rest = url
            .trim()
            .strip_prefix("service:jmx:")
            .ok_or_else(|| refuse("it does not start with `service:jmx:`"))?;
        let (protocol, rest) = rest.split_once("://").ok_or_else(|| refuse("there is no `://`"))?;
        if protocol != "rmi" {
            let why = format!("the connector protocol `{protocol}` is not supported, only `rmi` is");
            return Err(refuse(&why));
        }
        let (_, path) = rest.split_once('/').ok_or_else(|| refuse("there is no path"))?;
        let jndi = path
            .strip_prefix("jndi/")
            .ok_or_else(|| refuse("only `/jndi/rmi://host:port/name` paths are supported"))?;
        let target =
            jndi.strip_prefix("rmi://").ok_or_else(|| refuse("only `rmi:` registries are supported"))?;
        let (address, name) =
            target.split_once('/').ok_or_else(|| refuse("there is no name after the registry address"))?;
        let (host, port) = split_host_port(address, 1099)
            .ok_or_else(|| refuse("the registry port is not a number up to 65535"))?;
        let host = if host.is_empty() { "localhost" } else { host };
        Ok(Self { host: host.to_owned(), port, name: name.to_owned() })
    }

    /// Reads `host:port`, the peer's `hostPort` key.
    ///
    /// # Errors
    /// There is no port, or it is no number up to 65535.
    ///
    /// ```
    /// use metrics_adapter::jmx::RegistryAddress;
    ///
    /// assert_eq!(RegistryAddress::from_host_port("jvm:9010").unwrap().port, 9010);
    /// ```
    pub fn from_host_port(text: &str) -> Result<Self, ServiceUrlError> {
        Self::from_service_url(&format!("service:jmx:rmi:///jndi/rmi://{}/jmxrmi", text.trim()))
            .map_err(|error| ServiceUrlError { url: text.to_owned(), ..error })
    }
}

/// Splits `host:port`, `[v6]:port` or a bare host.
fn split_host_port(address: &str, default: u16) -> Option<(&str, u16)> {
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => return Some((host, default)),
        Some((host, port)) => (host, port.strip_prefix(':')?),
        None => match address.rsplit_once(':') {
            Some(parts) => parts,
            None => return Some((address, default)),
        },
    };
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_forms() {
        let expected = RegistryAddress::new("db", 9999);
        for url in [
            "service:jmx:rmi:///jndi/rmi://db:9999/jmxrmi",
            "service:jmx:rmi://db:1/jndi/rmi://db:9999/jmxrmi",
        ] {
            assert_eq!(RegistryAddress::from_service_url(url), Ok(expected.clone()));
        }
        assert_eq!(RegistryAddress::from_host_port("db:9999"), Ok(expected));
        let v6 = RegistryAddress::from_host_port("[::1]:5").unwrap();
        assert_eq!((v6.host.as_str(), v6.port), ("::1", 5));
        assert_eq!(RegistryAddress::from_host_port("host").unwrap().port, 1099);
    }

    #[test]
    fn others_say_why() {
        let error = RegistryAddress::from_service_url("service:jmx:jmxmp://h:1").unwrap_err();
        assert!(error.to_string().contains("jmxmp"), "{error}");
        for url in [
            "",
            "http://x",
            "service:jmx:rmi:///stub/abc",
            "service:jmx:rmi:///jndi/ldap://x/y",
            "service:jmx:rmi:///jndi/rmi://x:99999/y",
        ] {
            assert!(RegistryAddress::from_service_url(url).is_err(), "{url}");
        }
    }
}
