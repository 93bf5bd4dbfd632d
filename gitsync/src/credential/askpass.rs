//! Asking a server for user name and password.

use std::time::Duration;

use common::client::Client;
use common::secret::SecretString;
use hyper::Method;

use super::exchange;
use crate::redact;

/// A server beside us answers at once or not at all.
const LIMIT: Duration = Duration::from_secs(1);

pub(super) async fn ask(client: &Client, url: &str) -> Result<(String, SecretString), String> {
    let (status, body) = exchange(client, Method::GET, url, &[], LIMIT).await?;
    let shown = redact::url(url);
    if status != 200 {
        return Err(format!("{shown} answered {status}"));
    }
    parse(&String::from_utf8_lossy(&body)).ok_or_else(|| format!("{shown} named no username and password"))
}

/// Lines `username=…` and `password=…`; others mean nothing.
fn parse(text: &str) -> Option<(String, SecretString)> {
    let value =
        |key: &str| text.lines().filter_map(|line| line.trim_end_matches('\r').strip_prefix(key)).next_back();
    Some((value("username=")?.to_owned(), value("password=")?.to_owned().into()))
}

#[cfg(test)]
mod tests {
    use common::secret::ExposeSecret as _;

    #[test]
    fn answers() {
        let (user, password) = super::parse("x\r\nusername=u\r\npassword=p=q\n").unwrap();
        assert_eq!((&user[..], password.expose_secret()), ("u", "p=q"));
        assert!(super::parse("username=u").is_none());
    }
}
