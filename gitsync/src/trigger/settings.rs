//! From the settings to [`Triggers`].

use common::config::{ConfigError, Settings};

use super::Triggers;

impl Triggers {
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let text = |name: &str| settings.text(name).filter(|text| !text.is_empty());
        let triggers = Self {
            listen: settings.optional("webhook-listen")?,
            secret_file: text("push-webhook-secret-file").map(Into::into),
            path: text("push-webhook-path").unwrap_or("/webhook").to_owned(),
            repository: text("push-webhook-repository").map(str::to_owned),
            window: settings.value("push-webhook-window")?,
            token_file: text("api-token-file").map(Into::into),
        };
        let conflict = |text: &str| Err(ConfigError::Conflict(text.to_owned()));
        if !triggers.path.starts_with('/') || triggers.path == "/" {
            return Err(settings.invalid("push-webhook-path", "must begin with / and be longer than that"));
        }
        if triggers.listen.is_some() && !triggers.is_on() {
            return conflict("--webhook-listen needs --push-webhook-secret-file or --api-token-file");
        }
        let bound = triggers.listen.is_some() || text("http-bind").is_some();
        if triggers.is_on() && !bound {
            return conflict(
                "--push-webhook-secret-file and --api-token-file need --webhook-listen or --http-bind",
            );
        }
        if triggers.is_on() && settings.value("one-time")? {
            return conflict("--one-time leaves after the first sync; there is nothing to trigger");
        }
        Ok(triggers)
    }
}
