//! Installation tokens of a GitHub App: a signed statement (JWT) is exchanged for a token that lives an
//! hour. Source: GitHub's documentation, "Generating a JSON Web Token (JWT) for a GitHub App" and
//! "Create an installation access token for an app".

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::client::Client;
use common::secret::{self, ExposeSecret, SecretError, SecretString};
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};
use ring::signature::RsaKeyPair;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;

use super::http::{self, FetchError};
use super::url;

/// Where GitHub itself answers.
pub const DEFAULT_BASE_URL: &str = "https://api.github.com/";
/// The user name that goes with a token; the server ignores it.
pub const USERNAME: &str = "-";
/// How long a statement counts from now, in seconds: the most that GitHub takes.
const LIFETIME: u64 = 600;
/// A token that expires within this many seconds is replaced.
const REFRESH_BEFORE: u64 = 30;

/// Where the App's private key is.
///
/// ```
/// let key = gitsync::PrivateKey::File("/etc/git-secret/app.pem".into());
/// ```
#[derive(Debug, Clone)]
pub enum PrivateKey {
    /// PEM text.
    Value(SecretString),
    /// A PEM file, read anew for each token.
    File(PathBuf),
}

/// An App's installation.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
/// use gitsync::{GithubApp, PrivateKey};
///
/// config.credentials.github_app = Some(GithubApp {
///     base_url: "https://api.github.com/".into(),
///     issuer: "Iv1.0123456789abcdef".into(),
///     installation_id: 4711,
///     private_key: PrivateKey::File("/etc/git-secret/app.pem".into()),
/// });
/// ```
#[derive(Debug, Clone)]
pub struct App {
    /// API root, with or without a slash at its end; GitHub Enterprise has a path in it (`/api/v3`).
    pub base_url: String,
    /// Client id, or application id in decimal.
    pub issuer: String,
    /// The installation whose repositories are read.
    pub installation_id: u64,
    /// RSA key of the App.
    pub private_key: PrivateKey,
}

/// A token and its end.
#[derive(Debug, Clone)]
pub struct Token {
    /// The password to use with [`USERNAME`].
    pub secret: SecretString,
    /// Unix time in seconds.
    pub expires_at: u64,
}

impl Token {
    /// Whether it expires within 30 seconds of `now` (Unix time in seconds).
    #[must_use]
    pub fn needs_refresh(&self, now: u64) -> bool {
        now.saturating_add(REFRESH_BEFORE) >= self.expires_at
    }
}

/// Why there is no token; never repeats key or token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// The key file cannot be read.
    #[error("cannot read the GitHub App's private key")]
    KeyFile(#[from] SecretError),
    /// No RSA key in PEM (PKCS#1 or PKCS#8).
    #[error("unusable private key of the GitHub App: {reason}")]
    Key {
        /// What is wrong.
        reason: String,
    },
    /// GitHub gave no token.
    #[error("cannot get a GitHub App token")]
    Fetch(#[from] FetchError),
}

impl AppError {
    /// Whether the same request may succeed later without a change here.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.is_retryable())
    }
}

impl App {
    /// The URL to post to.
    #[doc(hidden)]
    #[must_use]
    pub fn token_url(&self) -> String {
        let base = self.base_url.trim_end_matches('/');
        format!("{base}/app/installations/{}/access_tokens", self.installation_id)
    }

    /// Signs a statement and exchanges it for a token. `now` is Unix time in seconds.
    ///
    /// # Errors
    /// The key is not usable, or GitHub does not answer 201 with a token within `limit`.
    ///
    /// # Cancel safety
    /// Dropping the future drops the request; a token that was made expires unused.
    #[doc(hidden)]
    pub async fn fetch(&self, client: &Client, now: u64, limit: Duration) -> Result<Token, AppError> {
        let statement = match &self.private_key {
            PrivateKey::Value(pem) => sign(pem, &self.issuer, now)?,
            PrivateKey::File(path) => sign(&secret::read(path)?, &self.issuer, now)?,
        };
        let address = self.token_url();
        let shown = url::mask(&address).into_owned();
        let unusable = |_| FetchError::Url { url: shown.clone() };
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", statement.expose_secret()))
            .map_err(|_| FetchError::Url { url: shown.clone() })?;
        bearer.set_sensitive(true);
        let request = Request::post(&address)
            .header(header::ACCEPT, "application/vnd.github+json")
            .header(header::USER_AGENT, http::USER_AGENT)
            .header(header::AUTHORIZATION, bearer)
            .header("X-GitHub-Api-Version", "2022-11-28")
            .body(http::empty())
            .map_err(unusable)?;
        let body = http::exchange(client, request, StatusCode::CREATED, limit).await?;
        parse_answer(&body)
            .map_err(|reason| FetchError::Answer { url: shown, reason: reason.to_owned() }.into())
    }
}

/// A JWT signed with RS256 (RFC 7519, RFC 7518): good for ten minutes, dated a minute back, since
/// clocks differ and GitHub takes no statement from the future. `now` is Unix time in seconds.
///
/// # Errors
/// No usable RSA key of 2048 to 8192 bits in the PEM text.
pub fn sign(pem: &SecretString, issuer: &str, now: u64) -> Result<SecretString, AppError> {
    let key = rsa_key(pem.expose_secret())?;
    let claims = serde_json::json!({
        "iat": now.saturating_sub(60),
        "exp": now.saturating_sub(60).saturating_add(LIFETIME),
        "iss": issuer,
    });
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        &ring::signature::RSA_PKCS1_SHA256,
        &ring::rand::SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .map_err(|_| AppError::Key { reason: "signing failed".to_owned() })?;
    Ok(SecretString::from(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

fn rsa_key(pem: &str) -> Result<RsaKeyPair, AppError> {
    let refuse = |reason: &str| AppError::Key { reason: reason.to_owned() };
    let parsed = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| refuse("no private key in PEM (PKCS#1 or PKCS#8, without a passphrase)"))?;
    let key = match &parsed {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err(refuse("not an RSA key")),
    };
    key.map_err(|error| AppError::Key { reason: error.to_string() })
}

/// Parses the answer's JSON.
///
/// # Errors
/// Without a token, or with an expiry that is no time; the content is not repeated.
pub fn parse_answer(body: &[u8]) -> Result<Token, &'static str> {
    #[derive(Deserialize)]
    struct Raw {
        token: String,
        expires_at: String,
    }
    let raw: Raw = serde_json::from_slice(body).map_err(|_| "no JSON with `token` and `expires_at`")?;
    if raw.token.is_empty() || raw.token.contains(char::is_control) {
        return Err("no usable `token`");
    }
    let expires_at = parse_time(&raw.expires_at).ok_or("`expires_at` is no time")?;
    Ok(Token { secret: SecretString::from(raw.token), expires_at })
}

/// Unix time of an RFC 3339 text; `None` for anything else, or before 1970.
pub(crate) fn parse_time(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    };
    let is = |at: usize, set: &[u8]| bytes.get(at).is_some_and(|byte| set.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut zone = 19;
    if is(zone, b".") {
        zone += 1 + bytes[zone + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    }
    let offset = match bytes.get(zone..)? {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let minutes = number(zone + 1, zone + 3)? * 60 + number(zone + 4, zone + 6)?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset) * 60 + second;
    u64::try_from(seconds).ok()
}

/// Days of the Gregorian calendar, counting years from March so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::http::fake;
    use proptest::prelude::*;
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    // Made for this test alone; the same key in both forms.
    const PKCS1: &str = include_str!("testdata/app-pkcs1.pem");
    const PKCS8: &str = include_str!("testdata/app-pkcs8.pem");

    fn app(base_url: &str) -> App {
        App {
            base_url: base_url.to_owned(),
            issuer: "Iv1.client".to_owned(),
            installation_id: 42,
            private_key: PrivateKey::Value(SecretString::from(PKCS1)),
        }
    }

    #[test]
    fn both_forms_of_the_key_sign_a_statement_that_verifies() {
        let public = rsa_key(PKCS1).unwrap().public().as_ref().to_vec();
        for pem in [PKCS1, PKCS8] {
            let jwt = sign(&SecretString::from(pem), "123", 1_000_000).unwrap();
            let (signed, signature) = jwt.expose_secret().rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public)
                .verify(signed.as_bytes(), &signature)
                .unwrap();
            let (head, claims) = signed.split_once('.').unwrap();
            assert_eq!(URL_SAFE_NO_PAD.decode(head).unwrap(), br#"{"alg":"RS256","typ":"JWT"}"#);
            let claims: serde_json::Value =
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
            assert_eq!(claims, serde_json::json!({"iat": 999_940, "exp": 1_000_540, "iss": "123"}));
        }
    }

    #[test]
    fn wrong_keys_are_refused_without_repeating_them() {
        for pem in
            ["", "S3CR3T", "-----BEGIN RSA PRIVATE KEY-----\nUzNDUjNU\n-----END RSA PRIVATE KEY-----\n"]
        {
            let error = sign(&SecretString::from(pem), "1", 0).unwrap_err();
            assert!(!error.to_string().contains("S3CR3T") && !error.is_retryable());
        }
    }

    #[test]
    fn base_urls_with_and_without_path_and_slash() {
        for (base, url) in [
            (DEFAULT_BASE_URL, "https://api.github.com/app/installations/42/access_tokens"),
            ("https://ghe.example/api/v3", "https://ghe.example/api/v3/app/installations/42/access_tokens"),
            ("https://ghe.example/api/v3/", "https://ghe.example/api/v3/app/installations/42/access_tokens"),
        ] {
            assert_eq!(app(base).token_url(), url);
        }
    }

    #[test]
    fn times() {
        for (text, time) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2016-07-11T22:14:10Z", Some(1_468_275_250)),
            ("2016-07-12T00:14:10.5+02:00", Some(1_468_275_250)),
            ("2000-02-29T12:00:00-00:30", Some(951_827_400)),
            ("2100-03-01T00:00:00z", Some(4_107_542_400)),
            ("1969-12-31T23:59:59Z", None),
            ("2016-13-11T22:14:10Z", None),
            ("2016-07-11T22:14:10", None),
            ("2016-07-11", None),
            ("", None),
        ] {
            assert_eq!(parse_time(text), time, "{text}");
        }
    }

    #[test]
    fn a_token_is_replaced_half_a_minute_before_its_end() {
        let token =
            parse_answer(br#"{"token":"S3CR3T","expires_at":"1970-01-01T01:00:00Z","permissions":{}}"#)
                .unwrap();
        assert!(!token.needs_refresh(3569) && token.needs_refresh(3570));
        assert!(!format!("{token:?}").contains("S3CR3T"));
        for body in [
            "",
            "{}",
            r#"{"token":"","expires_at":"1970-01-01T01:00:00Z"}"#,
            r#"{"token":"a\nb","expires_at":"1970-01-01T01:00:00Z"}"#,
            r#"{"token":"S3CR3T","expires_at":"soon"}"#,
        ] {
            assert!(!parse_answer(body.as_bytes()).unwrap_err().contains("S3CR3T"));
        }
    }

    #[tokio::test]
    async fn a_token_is_fetched_with_a_bearer_statement() {
        let body = r#"{"token":"ghs_x","expires_at":"2030-01-01T00:00:00Z"}"#;
        let (base, served) =
            fake::serve(format!("HTTP/1.1 201 Created\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
                .await;
        let token =
            app(&format!("{base}/api/v3")).fetch(&fake::client(), 1_000_000, Duration::from_secs(5)).await;
        assert_eq!(token.unwrap().secret.expose_secret(), "ghs_x");
        let head = served.await.unwrap().to_ascii_lowercase();
        assert!(head.starts_with("post /api/v3/app/installations/42/access_tokens "), "{head}");
        assert!(
            head.contains("authorization: bearer eyj") && head.contains("user-agent: gitsync/"),
            "{head}"
        );
    }

    #[tokio::test]
    async fn a_refusal_is_told() {
        let (base, _served) =
            fake::serve("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
        let error = app(&base).fetch(&fake::client(), 1_000_000, Duration::from_secs(5)).await.unwrap_err();
        assert!(!error.is_retryable() && matches!(error, AppError::Fetch(FetchError::Status { .. })));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(body in any::<Vec<u8>>(), text in any::<String>()) {
            let _ = parse_answer(&body);
            let _ = parse_time(&text);
            let _ = sign(&SecretString::from(text), "1", 0);
        }

        #[test]
        fn near_misses_never_panic(text in r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{0,3})?(Z|[+-][0-9]{2}:[0-9]{2})?") {
            let _ = parse_time(&text);
        }
    }
}
