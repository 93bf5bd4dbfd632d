//! A user name and password from a URL that is asked before every attempt.

use std::time::Duration;

use common::client::Client;
use common::secret::{ExposeSecret, SecretString};
use hyper::{Request, StatusCode, header};

use super::http::{self, FetchError};
use super::url;

/// How long the service may take: the peer's limit.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// What the service gave.
#[derive(Debug, Clone)]
pub struct Answer {
    /// User name; may be empty.
    pub username: String,
    /// Password or token.
    pub password: SecretString,
}

/// Why an answer is not usable; never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskpassError {
    /// Not UTF-8.
    #[error("not text")]
    NotText,
    /// No line `password=…`.
    #[error("no line `password=…`")]
    NoPassword,
    /// A control character in the value, which would break a header.
    #[error("a control character in user or password")]
    Control,
}

/// Parses an answer: lines `username=…` and `password=…`, the last of each counts, others are ignored.
///
/// # Errors
/// Not text, or no usable password.
pub fn parse(body: &[u8]) -> Result<Answer, AskpassError> {
    let text = std::str::from_utf8(body).map_err(|_| AskpassError::NotText)?;
    let (mut username, mut password) = ("", None);
    for line in text.lines() {
        match line.split_once('=') {
            Some(("username", value)) => username = value,
            Some(("password", value)) => password = Some(value),
            _ => {}
        }
    }
    let password = password.filter(|value| !value.is_empty()).ok_or(AskpassError::NoPassword)?;
    if username.contains(char::is_control) || password.contains(char::is_control) {
        return Err(AskpassError::Control);
    }
    Ok(Answer { username: username.to_owned(), password: SecretString::from(password) })
}

/// Asks the service. User and password inside the URL are sent as basic authentication. Anything but
/// status 200 fails; redirects are not followed.
///
/// # Errors
/// No answer within `limit`, another status, or an answer that is not usable.
///
/// # Cancel safety
/// Dropping the future drops the request.
pub async fn ask(client: &Client, askpass_url: &str, limit: Duration) -> Result<Answer, FetchError> {
    let unusable = || FetchError::Url { url: url::mask(askpass_url).into_owned() };
    let (cleaned, user) = url::cut_credentials(askpass_url).map_err(|_| unusable())?;
    let mut request = Request::get(&cleaned).header(header::USER_AGENT, http::USER_AGENT);
    if let Some(user) = user {
        let password = user.password.as_ref().map_or("", ExposeSecret::expose_secret);
        request = request.header(header::AUTHORIZATION, http::basic(&user.username, password));
    }
    let request = request.body(http::empty()).map_err(|_| unusable())?;
    let body = http::exchange(client, request, StatusCode::OK, limit).await?;
    parse(&body).map_err(|error| FetchError::Answer {
        url: url::mask(askpass_url).into_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::http::fake;
    use common::secret::ExposeSecret;
    use proptest::prelude::*;

    #[test]
    fn lines_are_read_and_others_ignored() {
        let answer = parse(b"hello\nusername=me\r\npassword=a=b c\r\nquit=1\n").unwrap();
        assert_eq!((answer.username.as_str(), answer.password.expose_secret()), ("me", "a=b c"));
        assert_eq!(parse(b"password=x").unwrap().username, "");
        assert_eq!(parse(b"username=me\n").unwrap_err(), AskpassError::NoPassword);
        assert_eq!(parse(b"password=\n").unwrap_err(), AskpassError::NoPassword);
        assert_eq!(parse(b"password=\xff").unwrap_err(), AskpassError::NotText);
        assert_eq!(parse(b"password=a\x01").unwrap_err(), AskpassError::Control);
    }

    #[tokio::test]
    async fn the_service_is_asked_once_with_its_own_credentials() {
        let body = "username=me\npassword=S3CR3T\n";
        let (base, served) =
            fake::serve(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        let with_user = base.replace("http://", "http://u:p@") + "/ask";
        let answer = ask(&fake::client(), &with_user, Duration::from_secs(5)).await.unwrap();
        assert_eq!(answer.password.expose_secret(), "S3CR3T");
        assert!(!format!("{answer:?}").contains("S3CR3T"));
        let head = served.await.unwrap().to_ascii_lowercase();
        assert!(head.starts_with("get /ask ") && head.contains("authorization: basic dtpw"), "{head}");
    }

    #[tokio::test]
    async fn redirects_errors_and_silence_fail() {
        let redirect = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
        let (base, _served) = fake::serve(redirect.to_owned()).await;
        let error = ask(&fake::client(), &base, Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(&error, FetchError::Status { status, .. } if status.as_u16() == 302), "{error}");
        let (base, _served) = fake::serve("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_owned()).await;
        let error = ask(&fake::client(), &base, Duration::from_millis(50)).await.unwrap_err();
        assert!(error.is_retryable());
        let body = "x".repeat(70 << 10);
        let (base, _served) =
            fake::serve(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        assert!(ask(&fake::client(), &base, Duration::from_secs(5)).await.is_err());
        let error = ask(&fake::client(), "http://u:S3CR3T@h:bad/", TIMEOUT).await.unwrap_err();
        assert!(!error.to_string().contains("S3CR3T"));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(body in any::<Vec<u8>>()) {
            let _ = parse(&body);
        }
    }
}
