//! Installation tokens of a GitHub App.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::client::Client;
use common::client::rustls::pki_types::PrivateKeyDer;
use common::client::rustls::pki_types::pem::PemObject as _;
use common::secret::{ExposeSecret as _, SecretString};
use hyper::Method;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Deserialize;

use super::{exchange, read};
use crate::config::GithubApp;

const LIMIT: Duration = Duration::from_secs(10);
/// A token is renewed when it has less than this left.
const MARGIN: Duration = Duration::from_secs(30);
/// The longest that GitHub lets an assertion live.
const ASSERTION: Duration = Duration::from_secs(600);

/// An app and its current token.
pub(super) struct App {
    app: GithubApp,
    token: Option<(SecretString, SystemTime)>,
}

#[derive(Deserialize)]
struct Answer {
    token: String,
    expires_at: String,
}

impl App {
    pub(super) fn new(app: GithubApp) -> Self {
        Self { app, token: None }
    }

    /// The token, while it lasts.
    pub(super) fn current(&self) -> Option<SecretString> {
        let (token, end) = self.token.as_ref()?;
        (SystemTime::now() + MARGIN < *end).then(|| token.clone())
    }

    pub(super) async fn renew(&mut self, client: &Client) -> Result<SecretString, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let bearer = format!("Bearer {}", assertion(&self.app, now.as_secs())?);
        let base = self.app.base_url.trim_end_matches('/');
        let url = format!("{base}/app/installations/{}/access_tokens", self.app.installation);
        let headers = [("authorization", bearer.as_str()), ("accept", "application/vnd.github+json")];
        let (status, body) = exchange(client, Method::POST, &url, &headers, LIMIT).await?;
        if status != 201 {
            return Err(format!("{url} answered {status}"));
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(|e| format!("{url}: {e}"))?;
        let end = parse_time(&answer.expires_at).ok_or_else(|| format!("{url}: a broken expires_at"))?;
        let token = SecretString::from(answer.token);
        self.token = Some((token.clone(), UNIX_EPOCH + Duration::from_secs(end)));
        Ok(token)
    }
}

/// A JSON web token signed with the app's key (RS256).
fn assertion(app: &GithubApp, now: u64) -> Result<String, String> {
    let pem = read(&app.key)?;
    let bad = |what: &str| format!("the GitHub App key {what}");
    let der =
        PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()).map_err(|_| bad("is no PEM key"))?;
    let key = match &der {
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        _ => return Err(bad("is no RSA key")),
    };
    let key = key.map_err(|e| bad(&format!("can't be used: {e}")))?;
    let claims = serde_json::json!({ "iat": now, "exp": now + ASSERTION.as_secs(), "iss": app.issuer });
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", encode(r#"{"alg":"RS256","typ":"JWT"}"#), encode(&claims.to_string()));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| bad("can't sign"))?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// `2026-11-22T18:00:00Z` as Unix seconds.
fn parse_time(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.split('.').next()?.splitn(3, ':').map(str::parse::<u64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970, with years that begin in March so that the leap day comes last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(parse_time("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_time("2024-02-29T12:34:56Z"), Some(1_709_210_096));
        assert_eq!(parse_time("2026-11-22T18:00:00.123Z"), Some(1_795_370_400));
        for bad in ["", "x", "2026-13-01T00:00:00Z", "2026-11-22 18:00:00"] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }
}
