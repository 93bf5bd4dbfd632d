//! The cookie file that curl and git know (Netscape format). Pure.

use url::Url;

/// The `Cookie` header for an address at `now` (Unix seconds), if any cookie is for it.
pub(crate) fn header(text: &str, url: &Url, now: u64) -> Option<String> {
    let pairs: Vec<String> = text.lines().filter_map(|line| pair(line, url, now)).collect();
    (!pairs.is_empty()).then(|| pairs.join("; "))
}

/// domain, subdomains too, path, secure, expiry, name, value; separated by tabs.
fn pair(line: &str, url: &Url, now: u64) -> Option<String> {
    let line = line.strip_prefix("#HttpOnly_").unwrap_or(line);
    if line.starts_with('#') {
        return None;
    }
    let mut fields = line.split('\t');
    let (domain, wide) = (fields.next()?, fields.next()? == "TRUE");
    let (path, secure) = (fields.next()?, fields.next()? == "TRUE");
    let expiry: u64 = fields.next()?.parse().ok()?;
    let (name, value) = (fields.next()?, fields.next().unwrap_or_default());
    let host = url.host_str()?;
    let domain = domain.trim_start_matches('.');
    let in_domain = host.eq_ignore_ascii_case(domain)
        || (wide && host.to_ascii_lowercase().ends_with(&format!(".{}", domain.to_ascii_lowercase())));
    let in_path = url.path().starts_with(path);
    let alive = expiry == 0 || expiry > now;
    (in_domain && in_path && alive && (!secure || url.scheme() == "https")).then(|| format!("{name}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_the_address() {
        let text = "# Netscape\n.a.example\tTRUE\t/\tFALSE\t0\to\tgit-x=1\n#HttpOnly_a.example\tFALSE\t/r\tTRUE\t5\ts\tv\nother\tTRUE\t/\tFALSE\t0\tn\tv\n";
        let of = |url: &str, now| header(text, &Url::parse(url).unwrap(), now);
        assert_eq!(of("https://a.example/r", 1).as_deref(), Some("o=git-x=1; s=v"));
        assert_eq!(of("https://a.example/r", 9).as_deref(), Some("o=git-x=1"));
        assert_eq!(of("http://b.a.example/r", 1).as_deref(), Some("o=git-x=1"));
        assert_eq!(of("http://c/", 1), None);
    }
}
