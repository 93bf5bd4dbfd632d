//! Cookies from a file in Netscape's form, as curl and git (`http.cookieFile`) read it. Pure.

use common::secret::{ExposeSecret, SecretString};

use super::url;

/// Largest file that is taken, in bytes.
const MAX_FILE: usize = 1 << 20;
/// Most that is sent in one header, in bytes (curl's limit).
const MAX_HEADER: usize = 8190;
/// Most cookies sent in one header (curl's limit).
const MAX_SENT: usize = 150;

/// Why a cookie file is not usable; never repeats its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CookieError {
    /// More than 1 MiB.
    #[error("cookie file larger than 1 MiB")]
    TooLarge,
    /// There are lines, but none of them is a cookie.
    #[error("no line of the cookie file is a cookie; line {line}: {reason}")]
    NoCookie {
        /// First line that is none, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

#[derive(Debug, Clone)]
struct Cookie {
    /// Lower case, without a leading dot.
    domain: String,
    subdomains: bool,
    path: String,
    secure: bool,
    /// Unix time in seconds; 0 = until the process ends.
    expires: u64,
    name: String,
    value: SecretString,
}

/// The cookies of a file.
#[derive(Debug, Clone, Default)]
pub struct Jar {
    cookies: Vec<Cookie>,
    rejected: Vec<(usize, &'static str)>,
}

impl Jar {
    /// Parses a file's content. Lines that are no cookie are passed over as curl does, see
    /// [`Jar::rejected`].
    ///
    /// # Errors
    /// Too large, or not one cookie in a file that is not empty.
    pub fn parse(content: &str) -> Result<Self, CookieError> {
        if content.len() > MAX_FILE {
            return Err(CookieError::TooLarge);
        }
        let mut jar = Self::default();
        for (index, line) in content.lines().enumerate() {
            let line = line.strip_prefix("#HttpOnly_").unwrap_or(line);
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            match parse_line(line) {
                Ok(cookie) => jar.insert(cookie),
                Err(reason) => jar.rejected.push((index + 1, reason)),
            }
        }
        match (jar.cookies.is_empty(), jar.rejected.first()) {
            (true, Some(&(line, reason))) => Err(CookieError::NoCookie { line, reason }),
            _ => Ok(jar),
        }
    }

    /// Lines that are no cookie: number (from 1) and reason.
    #[must_use]
    pub fn rejected(&self) -> &[(usize, &'static str)] {
        &self.rejected
    }

    /// The value of the `Cookie` header for a request, or `None` when no cookie is for it. `now` is Unix
    /// time in seconds. Longer paths come first (RFC 6265, 5.4).
    #[must_use]
    pub fn header(&self, request_url: &str, now: u64) -> Option<SecretString> {
        let parts = url::split(request_url).filter(url::Parts::is_http)?;
        let host = parts.host.to_ascii_lowercase();
        let secure = parts.scheme.eq_ignore_ascii_case("https");
        let path = if parts.path.is_empty() { "/" } else { parts.path };
        let mut sent: Vec<&Cookie> = self
            .cookies
            .iter()
            .filter(|cookie| {
                cookie.is_for_host(&host)
                    && cookie.is_for_path(path)
                    && (secure || !cookie.secure)
                    && (cookie.expires == 0 || cookie.expires > now)
            })
            .collect();
        sent.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let mut header = String::new();
        for cookie in sent.into_iter().take(MAX_SENT) {
            let value = cookie.value.expose_secret();
            if header.len() + 2 + cookie.name.len() + 1 + value.len() > MAX_HEADER {
                break;
            }
            if !header.is_empty() {
                header.push_str("; ");
            }
            header.push_str(&cookie.name);
            header.push('=');
            header.push_str(value);
        }
        (!header.is_empty()).then(|| SecretString::from(header))
    }

    fn insert(&mut self, cookie: Cookie) {
        let same =
            |old: &Cookie| old.name == cookie.name && old.domain == cookie.domain && old.path == cookie.path;
        match self.cookies.iter_mut().find(|old| same(old)) {
            Some(old) => *old = cookie,
            None => self.cookies.push(cookie),
        }
    }
}

impl Cookie {
    fn is_for_host(&self, host: &str) -> bool {
        match host.strip_suffix(&self.domain) {
            Some("") => true,
            // An address has no subdomains.
            Some(front) => {
                self.subdomains && front.ends_with('.') && host.parse::<std::net::IpAddr>().is_err()
            }
            None => false,
        }
    }

    fn is_for_path(&self, path: &str) -> bool {
        let prefix = self.path.trim_end_matches('/');
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

fn parse_line(line: &str) -> Result<Cookie, &'static str> {
    let fields: Vec<&str> = line.split('\t').collect();
    let (domain, subdomains, path, secure, expires, name, value) = match fields[..] {
        [domain, subdomains, path, secure, expires, name, value] => {
            (domain, subdomains, path, secure, expires, name, value)
        }
        [domain, subdomains, path, secure, expires, name] => {
            (domain, subdomains, path, secure, expires, name, "")
        }
        _ => return Err("not seven fields with tabs between them"),
    };
    let flag = |text: &str| match text.to_ascii_uppercase().as_str() {
        "TRUE" => Ok(true),
        "FALSE" => Ok(false),
        _ => Err("a flag is neither TRUE nor FALSE"),
    };
    let unsendable = |text: &str| text.contains(|c: char| c.is_control() || c == ';');
    let bare = domain.strip_prefix('.').unwrap_or(domain);
    if bare.is_empty() {
        return Err("no domain");
    }
    if name.is_empty() || name.contains('=') || unsendable(name) || unsendable(value) {
        return Err("unusable name or value");
    }
    Ok(Cookie {
        domain: bare.to_ascii_lowercase(),
        subdomains: flag(subdomains)?,
        path: if path.starts_with('/') { path.to_owned() } else { "/".to_owned() },
        secure: flag(secure)?,
        expires: expires.trim().parse().map_err(|_| "the expiry is no Unix time")?,
        name: name.to_owned(),
        value: SecretString::from(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "# Netscape HTTP Cookie File\n\n\
        .example.com\tTRUE\t/\tFALSE\t0\twide\t1\n\
        host.example.com\tFALSE\t/\tTRUE\t0\texact\t2\r\n\
        #HttpOnly_.example.com\tTRUE\t/org/repo\tTRUE\t2000\tdeep\ta=b c\n\
        example.com\tFALSE\t/\tFALSE\t100\told\t3\n\
        bare.example\tFALSE\t/x/\tFALSE\t0\tempty\n";

    fn header(url: &str, now: u64) -> Option<String> {
        Jar::parse(FILE).unwrap().header(url, now).map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn domain_path_security_and_expiry_decide() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            header("https://host.example.com/org/repo/info", 1000),
            some("deep=a=b c; wide=1; exact=2")
        );
        assert_eq!(header("http://host.example.com/org/repo", 1000), some("wide=1"));
        assert_eq!(header("https://other.example.com/org/repository", 1000), some("wide=1"));
        assert_eq!(header("https://sub.host.example.com/", 3000), some("wide=1"));
        assert_eq!(header("https://EXAMPLE.com", 99), some("wide=1; old=3"));
        assert_eq!(header("https://example.com/", 100), some("wide=1"));
        assert_eq!(header("https://example.com/org/repo", 2000), some("wide=1"));
        assert_eq!(header("https://badexample.com/", 0), None);
        assert_eq!(header("https://bare.example/x", 0), some("empty="));
        assert_eq!(header("https://bare.example/xy", 0), None);
        assert_eq!(header("ssh://example.com/", 0), None);
    }

    #[test]
    fn a_later_cookie_replaces_and_addresses_have_no_subdomains() {
        let jar = Jar::parse(
            "h\tFALSE\t/\tFALSE\t0\ta\t1\nh\tFALSE\t/\tFALSE\t0\ta\t2\n0.0.1\tTRUE\t/\tFALSE\t0\tx\ty\n",
        )
        .unwrap();
        assert_eq!(jar.header("http://h/", 0).unwrap().expose_secret(), "a=2");
        assert!(jar.header("http://127.0.0.1/", 0).is_none());
    }

    #[test]
    fn lines_that_are_no_cookie_are_told() {
        let jar = Jar::parse("nonsense\nh\tFALSE\t/\tFALSE\t0\ta\t1\nh\tno\t/\tFALSE\t0\ta\t1\n").unwrap();
        assert_eq!(jar.rejected().iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3]);
        assert!(matches!(Jar::parse("S3CR3T"), Err(CookieError::NoCookie { line: 1, .. })));
        assert_eq!(Jar::parse(&" ".repeat(MAX_FILE + 1)).unwrap_err(), CookieError::TooLarge);
        assert!(Jar::parse("").unwrap().header("http://h/", 0).is_none());
        assert!(!format!("{:?}", Jar::parse("h\tFALSE\t/\tFALSE\t0\ta\tS3CR3T").unwrap()).contains("S3CR3T"));
    }

    #[test]
    fn the_header_is_bounded() {
        let file: String =
            (0..400).map(|n| format!("h\tFALSE\t/\tFALSE\t0\tname{n}\t{}\n", "v".repeat(100))).collect();
        let header = Jar::parse(&file).unwrap().header("http://h/", 0).unwrap();
        assert!(header.expose_secret().len() <= MAX_HEADER);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(file in any::<String>(), url in any::<String>()) {
            if let Ok(jar) = Jar::parse(&file) {
                let _ = jar.header(&url, 0);
            }
        }

        #[test]
        fn headers_hold_no_line_ends(file in "(h\tTRUE\t/\tFALSE\t0\t[ -~\r\n\u{1}]{1,9}\t[ -~\r\u{7f}]{0,9}\n){1,4}") {
            if let Ok(jar) = Jar::parse(&file) && let Some(header) = jar.header("http://h/", 0) {
                prop_assert!(!header.expose_secret().contains(|c: char| c.is_control()));
            }
        }
    }
}
