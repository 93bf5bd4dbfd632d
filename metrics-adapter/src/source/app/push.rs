//! Where the page is pushed to besides being served: the entries of `push`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::client::TlsOptions;
use common::config::{ByteSize, FromSetting};
use common::secret::{self, ExposeSecret};
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::config::{Problem, span};
use super::raw::{At, RawPush, Scalar};
use crate::push::{Protocol, Target};

/// Reads one entry. Passwords are read now; a changed one needs a restart.
pub(super) fn target(at: &At<RawPush>, base: &Path) -> Result<Target, Problem> {
    let raw = &at.value;
    let missing = |key: &str| Problem::at(at.line, format!("push: {key}: it is missing"));
    let word = raw.protocol.as_ref().ok_or_else(|| missing("protocol"))?;
    let protocol = Protocol::read(&word.value.0).ok_or_else(|| {
        let known: Vec<&str> = Protocol::ALL.iter().map(|(known, _)| *known).collect();
        let reason = format!("push: protocol: `{}` is none of {}", word.value.0, known.join(", "));
        Problem::at(word.line, reason)
    })?;
    let url = raw.url.as_ref().ok_or_else(|| missing("url"))?;
    let mut target = Target::new(protocol, url.value.0.clone());
    if let Some(text) = &raw.interval {
        target.interval = span("push: interval", text)?;
    }
    if let Some(text) = &raw.timeout {
        target.timeout = span("push: timeout", text)?;
    }
    if let Some(text) = &raw.queue_bytes {
        let fail = |reason: String| Problem::at(text.line, format!("push: queue_bytes: {reason}"));
        let size = ByteSize::from_setting(&text.value).map_err(fail)?.0;
        target.queue_bytes = usize::try_from(size).unwrap_or(usize::MAX);
    }
    target.native_histograms = raw.native_histograms.as_ref().is_some_and(|on| on.value);
    for (name, value) in raw.labels.as_ref().map(|labels| &labels.value).into_iter().flatten() {
        target.labels.push((name.clone(), value.value.0.clone()));
    }
    for (name, value) in raw.headers.as_ref().map(|headers| &headers.value).into_iter().flatten() {
        let fail = |what: &str| Problem::at(value.line, format!("push: headers: `{name}`: {what}"));
        let header: HeaderName = name.parse().map_err(|_| fail("no header name"))?;
        if header == AUTHORIZATION {
            return Err(fail("secrets come from files: use password_file or bearer_token_file"));
        }
        let value = HeaderValue::from_str(&value.value).map_err(|_| fail("not allowed in a header"))?;
        target.headers.push((header, value));
    }
    target.headers.extend(authorization(raw, base)?.map(|value| (AUTHORIZATION, value)));
    let path = |file: &Option<Scalar>| file.as_ref().map(|file| base.join(&file.value.0));
    let identity = match (path(&raw.cert_file), path(&raw.key_file)) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err(Problem::at(at.line, "push: cert_file and key_file belong together")),
    };
    target.tls = TlsOptions { ca_file: path(&raw.ca_file), identity, ..TlsOptions::default() };
    Ok(target)
}

fn authorization(raw: &RawPush, base: &Path) -> Result<Option<HeaderValue>, Problem> {
    let read = |file: &Scalar| {
        let text = secret::read(&base.join(&file.value.0));
        text.map_err(|error| Problem::at(file.line, format!("push: {}", common::error::chain(&error))))
    };
    let (text, line) = match (&raw.username, &raw.password_file, &raw.bearer_token_file) {
        (None, None, None) => return Ok(None),
        (Some(user), Some(file), None) => {
            let both = format!("{}:{}", user.value.0, read(file)?.expose_secret());
            (format!("Basic {}", STANDARD.encode(both)), file.line)
        }
        (None, None, Some(file)) => (format!("Bearer {}", read(file)?.expose_secret()), file.line),
        (user, password, token) => {
            let given = [user, password, token].into_iter().flatten().next().map_or(0, |text| text.line);
            return Err(Problem::at(given, "push: either username and password_file, or bearer_token_file"));
        }
    };
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Problem::at(line, "push: the password holds characters that no header may have"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}
