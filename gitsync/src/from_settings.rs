//! From the settings of all layers to the validated [`Config`].

use std::path::{Component, PathBuf};
use std::time::Duration;

use common::config::{ConfigError, FromSetting as _, ListenAddr, Origin, Settings};
use common::secret::SecretString;

use crate::auth::git_config;
use crate::auth::github_app::{App, PrivateKey};
use crate::auth::store::{self, Credential, Password};
use crate::config::{Config, Credentials, ExecHook, Hooks, Http, Probe, Submodules, Tidy, WebHook};
use crate::publish::{Codec, Mode, Strip};
use crate::redact;
use crate::repo::Reuse;
use crate::ssh::HostKeys;
use crate::verify::{Verification, Verify};

const SHORTEST_PERIOD: Duration = Duration::from_millis(10);
/// Where kubernetes/git-sync expects it.
const COOKIE_FILE: &str = "/etc/git-secret/cookie_file";
/// Each takes the disk space of a checkout.
const MOST_KEPT: usize = 1_000;
const SHORTEST_HOOK: Duration = Duration::from_secs(1);

impl Config {
    /// Takes the settings of [`crate::APP`] in.
    ///
    /// # Errors
    /// A value that doesn't parse, is out of range, contradicts another one, or asks for what
    /// this program can't do.
    ///
    /// ```
    /// use gitsync::{APP, Config, Layers};
    ///
    /// let mut layers = Layers::new(&APP);
    /// layers.environment([("GITSYNC_REPO", "https://git.example/site.git"), ("GITSYNC_ROOT", "/srv/git")]);
    /// layers.flag("ref", vec!["v1.2".into()])?;
    /// let config = Config::from_settings(&layers.finish())?;
    /// assert_eq!(config.reference, "v1.2");
    /// # Ok::<(), gitsync::ConfigError>(())
    /// ```
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let repo = required(settings, "repo")?;
        let root = required(settings, "root")?;
        let (repo, from_url) = split_credentials(&repo);
        let mut config = Self::new(repo, PathBuf::from(root));
        config.reference = reference(settings)?;
        let depth: i64 = settings.value("depth")?;
        config.depth = u32::try_from(depth)
            .map_err(|_| unusable(settings, "depth", "must be 0 or more"))?
            .min(i32::MAX as u32);
        config.submodules = match settings.text("submodules").unwrap_or_default() {
            "recursive" => Submodules::Recursive,
            "shallow" => Submodules::Shallow,
            "off" => Submodules::Off,
            other => {
                return Err(unusable(
                    settings,
                    "submodules",
                    &format!("`{other}` is none of recursive, shallow, off"),
                ));
            }
        };
        config.sparse_checkout_file = path(settings, "sparse-checkout-file");
        if let Some(link) = path(settings, "dest").or_else(|| path(settings, "link")) {
            config.link = link;
        }
        shape(settings, &mut config)?;
        config.touch_file = path(settings, "touch-file");
        config.error_file = path(settings, "error-file");
        config.stale_worktree_timeout = settings.value("stale-worktree-timeout")?;
        times(settings, &mut config)?;
        config.one_time = settings.value("one-time")?;
        // Used before there is a configuration, but to be refused like the others.
        settings.value::<i64>("verbose")?;
        settings.value::<i64>("v")?;
        failures(settings, &mut config)?;
        config.sync_on_signal = signal(settings)?;
        config.hooks = hooks(settings)?;
        config.credentials = credentials(settings, &config.repo, from_url, &mut config.passed_over)?;
        if let Some(filter) = text(settings, "filter") {
            config.filter = filter_spec(filter);
            if config.filter.is_none() {
                let reason =
                    "only blob:none, blob:limit=BYTES and tree:DEPTH are known; everything is fetched";
                config.passed_over.push(format!("--filter={filter}: {reason}"));
            }
        }
        config.verification = verification(settings, config.depth)?;
        config.probe = probe(settings, config.sync_timeout)?;
        let keep: i64 = settings.value("keep")?;
        config.keep = usize::try_from(keep)
            .ok()
            .filter(|keep| *keep <= MOST_KEPT)
            .ok_or_else(|| settings.invalid("keep", "must be 0 to 1000"))?;
        config.http = http(settings)?;
        config.triggers = crate::trigger::Triggers::from_settings(settings)?;
        config.lfs = match settings.text("lfs").unwrap_or_default() {
            "off" => false,
            "on" => true,
            other => return Err(settings.invalid("lfs", &format!("`{other}` is neither on nor off"))),
        };
        config.reuse = match settings.text("reuse").unwrap_or_default() {
            "off" => Reuse::Off,
            "auto" => Reuse::Auto,
            "reflink" => Reuse::Reflink,
            "hardlink" => Reuse::HardLink,
            other => {
                let reason = format!("`{other}` is none of auto, reflink, hardlink, off");
                return Err(settings.invalid("reuse", &reason));
            }
        };
        git_settings(settings, &mut config)?;
        config.ssh.keys = settings.list("ssh-key-file")?;
        config.ssh.host_keys = match settings.value("ssh-known-hosts")? {
            true => HostKeys::Strict(required(settings, "ssh-known-hosts-file")?.into()),
            false => HostKeys::AcceptAny,
        };
        config.tidy = match settings.text("git-gc").unwrap_or_default() {
            "always" => Tidy::WhenDue,
            "auto" => Tidy::ManyPacks,
            "aggressive" => Tidy::EachTime,
            "off" => Tidy::Off,
            other => {
                return Err(unusable(
                    settings,
                    "git-gc",
                    &format!("`{other}` is none of always, auto, aggressive, off"),
                ));
            }
        };
        if settings.value::<i64>("change-permissions")? != 0 {
            return Err(unusable(
                settings,
                "change-permissions",
                "is no longer supported, use --group-write",
            ));
        }
        Ok(config)
    }
}

/// A filter as servers take it: with numbers in decimal, without their units.
fn filter_spec(text: &str) -> Option<String> {
    if text == "blob:none" {
        return Some(text.to_owned());
    }
    if let Some(depth) = text.strip_prefix("tree:") {
        return Some(format!("tree:{}", depth.parse::<u64>().ok()?));
    }
    let limit = text.strip_prefix("blob:limit=")?;
    let at = limit.find(|c: char| !c.is_ascii_digit()).unwrap_or(limit.len());
    let factor = match limit[at..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1u64 << 30,
        _ => return None,
    };
    Some(format!("blob:limit={}", limit[..at].parse::<u64>().ok()?.checked_mul(factor)?))
}

fn verification(settings: &Settings, depth: u32) -> Result<Verification, ConfigError> {
    let mode = match settings.text("verify").unwrap_or_default() {
        "off" => Verify::Off,
        "head" => Verify::Head,
        "all-new" => Verify::AllNew,
        other => return Err(settings.invalid("verify", &format!("`{other}` is none of off, head, all-new"))),
    };
    let verification = Verification {
        mode,
        allowed_signers: path(settings, "verify-allowed-signers-file"),
        keyring: path(settings, "verify-openpgp-keyring"),
    };
    if verification.keyring.is_some() && !cfg!(feature = "openpgp") {
        let reason =
            "can't be used: this build has no OpenPGP (cargo feature `openpgp`); SSH signatures work";
        return Err(settings.invalid("verify-openpgp-keyring", reason));
    }
    let conflict = |text: &str| Err(ConfigError::Conflict(text.to_owned()));
    let has_keys = verification.allowed_signers.is_some() || verification.keyring.is_some();
    match (mode, has_keys) {
        (Verify::Off, true) => conflict("keys for signatures need --verify=head or --verify=all-new"),
        (Verify::Head | Verify::AllNew, false) => {
            conflict("--verify needs --verify-allowed-signers-file or --verify-openpgp-keyring")
        }
        (Verify::AllNew, _) if depth == 1 => {
            conflict("--verify=all-new needs the commits in between: --depth=0, or deep enough for any push")
        }
        _ => Ok(verification),
    }
}

fn probe(settings: &Settings, limit: Duration) -> Result<Option<Probe>, ConfigError> {
    let Some(url) = text(settings, "probe-url") else { return Ok(None) };
    let is_http =
        url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !is_http {
        return Err(settings.invalid("probe-url", "must be an http or https URL"));
    }
    let probe = Probe {
        url: url.to_owned(),
        timeout: settings.value("probe-timeout")?,
        delay: settings.value("probe-delay")?,
    };
    if probe.timeout.is_zero() || probe.timeout + probe.delay >= limit {
        return Err(
            settings.invalid("probe-timeout", "must be above 0, and with --probe-delay below --sync-timeout")
        );
    }
    Ok(Some(probe))
}

/// What is published, and as what.
fn shape(settings: &Settings, config: &mut Config) -> Result<(), ConfigError> {
    config.publish = match settings.text("publish").unwrap_or_default() {
        "symlink" => Mode::Symlink,
        "exchange" => Mode::Exchange,
        "copy-once" => Mode::CopyOnce,
        other => {
            let reason = format!("`{other}` is none of symlink, exchange, copy-once");
            return Err(settings.invalid("publish", &reason));
        }
    };
    if let Some(given) = path(settings, "subpath") {
        let plain = |part: &Component<'_>| matches!(part, Component::Normal(name) if *name != ".git");
        let parts = given.components().filter(|part| *part != Component::CurDir);
        if !parts.clone().all(|part| plain(&part)) {
            return Err(settings.invalid("subpath", "must be a folder in the repository, without .."));
        }
        config.subpath = Some(parts.collect::<PathBuf>()).filter(|path| !path.as_os_str().is_empty());
    }
    config.web.strip = match settings.text("strip").unwrap_or_default() {
        "none" => Strip::Nothing,
        "git" => Strip::Git,
        "dotfiles" => Strip::Dotfiles,
        other => {
            return Err(settings.invalid("strip", &format!("`{other}` is none of none, git, dotfiles")));
        }
    };
    config.web.commit_times = match settings.text("file-times").unwrap_or_default() {
        "checkout" => false,
        "commit" => true,
        other => {
            return Err(settings.invalid("file-times", &format!("`{other}` is none of checkout, commit")));
        }
    };
    for name in settings.list::<String>("precompress")?.iter().flat_map(|text| text.split(',')).map(str::trim)
    {
        let codec = Codec::from_name(name)
            .ok_or_else(|| settings.invalid("precompress", &format!("`{name}` is none of gz, br, zst")))?;
        if !config.web.codecs.contains(&codec) {
            config.web.codecs.push(codec);
        }
    }
    if config.publish != Mode::Symlink && config.link.file_name().is_none() {
        return Err(settings.invalid("link", "must name the directory itself"));
    }
    Ok(())
}

fn git_settings(settings: &Settings, config: &mut Config) -> Result<(), ConfigError> {
    let parse = |name: &'static str, text: &str| {
        git_config::parse(text).map_err(|error| unusable(settings, name, &error.to_string()))
    };
    config.git.set(parse("git-config", settings.text("git-config").unwrap_or_default())?);
    for text in settings.list::<String>("git-config-add")? {
        config.git.add(parse("git-config-add", &text)?);
    }
    Ok(())
}

/// For a value that could be read but can't be used, which kubernetes/git-sync tells apart by its exit
/// status.
fn unusable(settings: &Settings, name: &'static str, reason: &str) -> ConfigError {
    match settings.invalid(name, reason) {
        ConfigError::Value { place, reason } => ConfigError::Conflict(format!("{place}: {reason}")),
        other => other,
    }
}

fn required(settings: &Settings, name: &'static str) -> Result<String, ConfigError> {
    settings
        .text(name)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| settings.missing(name))
}

fn path(settings: &Settings, name: &str) -> Option<PathBuf> {
    settings.text(name).filter(|text| !text.is_empty()).map(PathBuf::from)
}

fn text<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
    settings.text(name).filter(|text| !text.is_empty())
}

fn reference(settings: &Settings) -> Result<String, ConfigError> {
    match (text(settings, "branch"), text(settings, "rev")) {
        (Some(name), None | Some("HEAD")) | (None, Some(name)) => Ok(name.to_owned()),
        (Some(_), Some(_)) => {
            Err(ConfigError::Conflict("--branch and --rev can't both be given; use --ref".to_owned()))
        }
        (None, None) => text(settings, "ref").map(str::to_owned).ok_or_else(|| settings.missing("ref")),
    }
}

fn times(settings: &Settings, config: &mut Config) -> Result<(), ConfigError> {
    let at_least = |name: &'static str, value: Duration| match value < SHORTEST_PERIOD {
        true => Err(unusable(settings, name, "must be at least 10ms")),
        false => Ok(value),
    };
    let wait: f64 = settings.value("wait")?;
    config.period = match wait {
        0.0 => at_least("period", settings.value("period")?)?,
        seconds => Duration::try_from_secs_f64(seconds)
            .map_err(|_| unusable(settings, "wait", "is no time"))
            .and_then(|value| at_least("wait", value))?,
    };
    config.init_period = match settings.optional("init-period")? {
        Some(value) => at_least("init-period", value)?,
        None => config.period,
    };
    config.jitter = settings.value::<f64>("period-jitter")? / 100.0;
    if !(0.0..=1.0).contains(&config.jitter) {
        return Err(settings.invalid("period-jitter", "must be 0 to 100, a share of the period in percent"));
    }
    config.max_period = settings.optional("max-period")?;
    if config.max_period.is_some_and(|max| max < config.period) {
        return Err(settings.invalid("max-period", "must not be less than --period"));
    }
    let timeout: i64 = settings.value("timeout")?;
    config.sync_timeout = match timeout {
        0 => at_least("sync-timeout", settings.value("sync-timeout")?)?,
        seconds => Duration::from_secs(
            u64::try_from(seconds).map_err(|_| unusable(settings, "timeout", "must not be negative"))?,
        ),
    };
    Ok(())
}

fn failures(settings: &Settings, config: &mut Config) -> Result<(), ConfigError> {
    let old: i64 = settings.value("max-sync-failures")?;
    config.max_failures = match (old, settings.is_set("max-failures")) {
        (0, false) => None,
        (0, true) => Some(settings.value("max-failures")?),
        (old, _) => Some(old),
    };
    config.init_max_failures = settings.optional("init-max-failures")?;
    Ok(())
}

pub(crate) fn signal(settings: &Settings) -> Result<Option<i32>, ConfigError> {
    // By number; none for those that can't be caught, or mean a fault of the process itself.
    const NAMES: &[&str] = &[
        "", "HUP", "INT", "QUIT", "", "TRAP", "ABRT", "BUS", "", "", "USR1", "", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM",
        "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    /// What follows has no names.
    const REAL_TIME: std::ops::RangeInclusive<usize> = 34..=64;
    let Some(text) = text(settings, "sync-on-signal") else { return Ok(None) };
    let number = match i64::from_setting(text) {
        Ok(number) => usize::try_from(number).ok(),
        Err(_) => NAMES.iter().position(|name| *name == text.strip_prefix("SIG").unwrap_or(text)),
    };
    let can_be_caught = |number: &usize| {
        NAMES.get(*number).is_some_and(|name| !name.is_empty()) || REAL_TIME.contains(number)
    };
    match number.filter(can_be_caught).and_then(|number| i32::try_from(number).ok()) {
        Some(number) => Ok(Some(number)),
        None => {
            Err(unusable(settings, "sync-on-signal", &format!("`{text}` is no signal that can be caught")))
        }
    }
}

fn hooks(settings: &Settings) -> Result<Hooks, ConfigError> {
    let duration = |name: &'static str| -> Result<Duration, ConfigError> {
        let value: Duration = settings.value(name)?;
        if value < SHORTEST_HOOK { Err(unusable(settings, name, "must be at least 1s")) } else { Ok(value) }
    };
    let command = text(settings, "sync-hook-command").or_else(|| text(settings, "exechook-command"));
    let exec = match command {
        Some(command) => Some(ExecHook {
            command: command.to_owned(),
            timeout: duration("exechook-timeout")?,
            backoff: duration("exechook-backoff")?,
        }),
        None => None,
    };
    let pre_publish = match text(settings, "pre-publish-exechook-command") {
        Some(command) => Some(ExecHook {
            command: command.to_owned(),
            timeout: duration("pre-publish-exechook-timeout")?,
            backoff: duration("pre-publish-exechook-backoff")?,
        }),
        None => None,
    };
    let web = match text(settings, "webhook-url") {
        Some(url) => {
            let status: i64 = settings.value("webhook-success-status")?;
            if status < -1 {
                return Err(unusable(settings, "webhook-success-status", "must be -1 or more"));
            }
            Some(WebHook {
                url: url.to_owned(),
                more_urls: settings.list("webhook-extra-url")?,
                headers: webhook_headers(settings)?,
                json: match settings.text("webhook-body").unwrap_or_default() {
                    "" | "none" => false,
                    "json" => true,
                    other => {
                        return Err(
                            settings.invalid("webhook-body", &format!("`{other}` is none of none, json"))
                        );
                    }
                },
                secret_file: path(settings, "webhook-hmac-secret-file"),
                method: required(settings, "webhook-method")?,
                success_status: u16::try_from(status).ok().filter(|status| *status > 0),
                timeout: duration("webhook-timeout")?,
                backoff: duration("webhook-backoff")?,
            })
        }
        None => None,
    };
    Ok(Hooks { exec, pre_publish, pre_publish_async: settings.value("pre-publish-exechook-async")?, web })
}

fn webhook_headers(settings: &Settings) -> Result<Vec<(String, String)>, ConfigError> {
    let parse = |line: String| {
        let (name, value) = line.split_once(':').map(|(name, value)| (name.trim(), value.trim()))?;
        let good = name.parse::<hyper::header::HeaderName>().is_ok()
            && value.parse::<hyper::header::HeaderValue>().is_ok();
        good.then(|| (name.to_owned(), value.to_owned()))
    };
    let lines = settings.list::<String>("webhook-header")?;
    let headers: Option<Vec<_>> = lines.into_iter().map(parse).collect();
    headers.ok_or_else(|| settings.invalid("webhook-header", "must look like `Name: value`"))
}

fn credentials(
    settings: &Settings,
    repo: &str,
    from_url: Option<(String, SecretString)>,
    passed_over: &mut Vec<String>,
) -> Result<Credentials, ConfigError> {
    let conflict = |text: &str| Err(ConfigError::Conflict(text.to_owned()));
    let username = text(settings, "username");
    let password = text(settings, "__env__GITSYNC_PASSWORD").or_else(|| text(settings, "password"));
    let file = path(settings, "password-file");
    let mut by_url = Vec::new();
    match (username, password, file) {
        (None, None, None) => {}
        (Some(_), None, None) => return conflict("--username needs $GITSYNC_PASSWORD or --password-file"),
        (None, _, _) => return conflict("a password needs --username"),
        (Some(_), Some(_), Some(_)) => {
            return conflict("only one of $GITSYNC_PASSWORD and --password-file can be given");
        }
        (Some(_), _, _) if from_url.is_some() || url::Url::parse(repo).is_ok_and(|url| has_user(&url)) => {
            return conflict("credentials in --repo and --username can't both be given");
        }
        (Some(user), Some(password), None) => {
            by_url.push(credential(repo, user, Password::Value(password.to_owned().into())));
        }
        (Some(user), None, Some(file)) => by_url.push(credential(repo, user, Password::File(file))),
    }
    if let Some((user, password)) = from_url {
        by_url.push(credential(repo, &user, Password::Value(password)));
    }
    for text in settings.list::<String>("credential")? {
        match store::parse(&text) {
            Ok(parsed) => by_url.extend(parsed),
            Err(error) if !error.is_unreadable() => {
                return Err(unusable(settings, "credential", &error.to_string()));
            }
            // kubernetes/git-sync goes on without it, so a pod that runs there must start here.
            Err(error) if matches!(settings.origin("credential"), Some(Origin::Environment(_))) => {
                passed_over.push(format!("GITSYNC_CREDENTIAL: {error}"));
            }
            Err(error) => return Err(settings.invalid("credential", &error.to_string())),
        }
    }
    Ok(Credentials {
        by_url,
        askpass_url: text(settings, "askpass-url").map(str::to_owned),
        cookie_file: settings.value::<bool>("cookie-file")?.then(|| PathBuf::from(COOKIE_FILE)),
        github_app: github_app(settings, username.is_some(), passed_over)?,
        stores: Vec::new(),
    })
}

fn credential(url: &str, username: &str, password: Password) -> Credential {
    Credential { url: url.to_owned(), username: username.to_owned(), password }
}

fn github_app(
    settings: &Settings,
    has_username: bool,
    passed_over: &mut Vec<String>,
) -> Result<Option<App>, ConfigError> {
    let conflict = |text: &str| Err(ConfigError::Conflict(text.to_owned()));
    let application: u64 = settings.value("github-app-application-id")?;
    let client = text(settings, "github-app-client-id");
    let inline = text(settings, "__env__GITSYNC_GITHUB_APP_PRIVATE_KEY")
        .or_else(|| text(settings, "github-app-private-key"));
    let file = path(settings, "github-app-private-key-file");
    let installation: u64 = settings.value("github-app-installation-id")?;
    let issuer = match (application, client) {
        (0, None) if installation != 0 => {
            return conflict(
                "--github-app-installation-id needs --github-app-application-id or --github-app-client-id",
            );
        }
        (0, None) => {
            if inline.is_some() || file.is_some() {
                let needs = "needs --github-app-application-id or --github-app-client-id";
                passed_over.push(format!("the key of a GitHub App: it {needs}"));
            }
            return Ok(None);
        }
        (0, Some(client)) => client.to_owned(),
        (id, None) => id.to_string(),
        (_, Some(_)) => {
            return conflict(
                "only one of --github-app-application-id and --github-app-client-id can be given",
            );
        }
    };
    if has_username {
        return conflict("a GitHub App and --username can't both be given");
    }
    if installation == 0 {
        return conflict("a GitHub App needs --github-app-installation-id");
    }
    let private_key = match (inline, file) {
        (Some(key), None) => PrivateKey::Value(key.to_owned().into()),
        (None, Some(file)) => PrivateKey::File(file),
        _ => {
            return conflict(
                "a GitHub App needs one of $GITSYNC_GITHUB_APP_PRIVATE_KEY and --github-app-private-key-file",
            );
        }
    };
    let base_url = required(settings, "github-base-url")?;
    Ok(Some(App { base_url, issuer, installation_id: installation, private_key }))
}

pub(crate) fn http(settings: &Settings) -> Result<Option<Http>, ConfigError> {
    let (metrics, pprof) = (settings.value("http-metrics")?, settings.value("http-pprof")?);
    let events = settings.value("http-events")?;
    let bind = settings.optional::<ListenAddr>("http-bind").map_err(|error| match error {
        ConfigError::Value { place, reason } => ConfigError::Conflict(format!("{place}: {reason}")),
        other => other,
    })?;
    match bind {
        Some(bind) => Ok(Some(Http { bind, metrics, pprof, events })),
        None if metrics => Err(ConfigError::Conflict("--http-metrics needs --http-bind".to_owned())),
        None if events => Err(ConfigError::Conflict("--http-events needs --http-bind".to_owned())),
        None if pprof => Err(ConfigError::Conflict("--http-pprof needs --http-bind".to_owned())),
        None => Ok(None),
    }
}

fn has_user(url: &url::Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// For http and https: takes user and password out of the URL. The user of an ssh URL stays in it.
fn split_credentials(repo: &str) -> (String, Option<(String, SecretString)>) {
    let is_taken = |url: &url::Url| matches!(url.scheme(), "http" | "https") && has_user(url);
    let Some(mut url) = url::Url::parse(repo).ok().filter(is_taken) else {
        return (repo.to_owned(), None);
    };
    let user = redact::percent_decode(url.username());
    let password = redact::percent_decode(url.password().unwrap_or_default());
    let _ = url.set_username("");
    let _ = url.set_password(None);
    (url.to_string(), Some((user, password.into())))
}

#[cfg(test)]
mod tests {
    use common::config::Layers;
    use common::secret::ExposeSecret as _;

    use super::*;
    use crate::APP;

    fn config(flags: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut layers = Layers::new(&APP);
        layers.environment(env.iter().copied());
        for (name, value) in [("repo", "https://h/a/x.git"), ("root", "/r")].iter().chain(flags) {
            layers.flag(name, vec![(*value).to_owned()]).unwrap();
        }
        Config::from_settings(&layers.finish())
    }

    #[test]
    fn defaults_are_those_of_the_peer() {
        let config = config(&[], &[]).unwrap();
        assert_eq!(config.reference, "HEAD");
        assert_eq!(config.link, PathBuf::from("x.git"));
        assert_eq!((config.depth, config.period), (1, Duration::from_secs(10)));
        assert_eq!(config.max_failures, None);
        assert_eq!(config.sync_timeout, Duration::from_secs(120));
    }

    #[test]
    fn older_variables_win_over_newer_ones() {
        let env = [("GIT_SYNC_DEPTH", "3"), ("GITSYNC_DEPTH", "4"), ("GITSYNC_PERIOD", "7s")];
        let config = config(&[], &env).unwrap();
        assert_eq!((config.depth, config.period), (3, Duration::from_secs(7)));
    }

    #[test]
    fn deprecated_flags_override() {
        let flags =
            [("branch", "b"), ("ref", "r"), ("dest", "d"), ("link", "l"), ("wait", "0.5"), ("timeout", "9")];
        let config = config(&flags, &[]).unwrap();
        assert_eq!((&config.reference[..], config.link), ("b", PathBuf::from("d")));
        assert_eq!(
            (config.period, config.sync_timeout),
            (Duration::from_millis(500), Duration::from_secs(9))
        );
    }

    #[test]
    fn the_old_way_to_name_a_ref() {
        for (branch, rev, expected) in
            [("b", "", "b"), ("b", "HEAD", "b"), ("", "HEAD", "HEAD"), ("", "v1", "v1"), ("", "", "r")]
        {
            let env = [("GIT_SYNC_BRANCH", branch), ("GIT_SYNC_REV", rev), ("GITSYNC_REF", "r")];
            assert_eq!(config(&[], &env).unwrap().reference, expected, "{env:?}");
        }
    }

    #[test]
    fn the_key_of_no_github_app_is_passed_over() {
        let config = config(&[("github-app-private-key-file", "/key")], &[]).unwrap();
        assert!(config.credentials.github_app.is_none() && config.passed_over.len() == 1);
    }

    #[test]
    fn contradictions_are_named() {
        for flags in [
            &[("depth", "-1")][..],
            &[("ref", "")],
            &[("period", "1ms")],
            &[("http-metrics", "true")],
            &[("username", "u")],
            &[("repo", "ssh://git@h/x"), ("username", "u"), ("password", "p")],
            &[("password", "p")],
            &[("branch", "b"), ("rev", "r")],
            &[("submodules", "some")],
            &[("sync-on-signal", "KILL")],
            &[("github-app-application-id", "1")],
            &[("github-app-installation-id", "1")],
            &[("credential", "{\"url\":\"u\"}")],
            &[("credential", "{\"url\":\"u\",\"username\":\"n\",\"password\":\"p\",\"x\":1}")],
        ] {
            assert!(config(flags, &[]).is_err(), "{flags:?}");
        }
    }

    #[test]
    fn credentials_leave_the_url() {
        let shouted = config(&[("repo", "HTTPS://u:p@h/x")], &[]).unwrap();
        assert_eq!((&*shouted.repo, shouted.credentials.by_url.len()), ("https://h/x", 1));
        let kept = config(&[("repo", "git@h:x"), ("username", "u"), ("password", "p")], &[]).unwrap();
        assert_eq!((&*kept.repo, kept.credentials.by_url.len()), ("git@h:x", 1));
        let config = config(&[("repo", "https://us%40er:p%20w@h/x")], &[]).unwrap();
        assert_eq!(config.repo, "https://h/x");
        assert_eq!(config.credentials.by_url[0].username, "us@er");
        let Password::Value(password) = &config.credentials.by_url[0].password else { panic!() };
        assert_eq!(password.expose_secret(), "p w");
    }

    #[test]
    fn credential_lists() {
        let text = r#"[{"url":"https://a","username":"u","password":"a, b"},{"url":"https://b","username":"v","password-file":"/f"}]"#;
        let config = config(&[], &[("GITSYNC_CREDENTIAL", text)]).unwrap();
        assert_eq!(config.credentials.by_url.len(), 2);
    }

    #[test]
    fn signals_by_name_and_number() {
        for text in ["SIGHUP", "HUP", "1", "0x1"] {
            assert_eq!(config(&[("sync-on-signal", text)], &[]).unwrap().sync_on_signal, Some(1));
        }
        for (text, number) in [("USR2", 12), ("SIGCHLD", 17), ("PWR", 30), ("SYS", 31), ("64", 64)] {
            assert_eq!(config(&[("sync-on-signal", text)], &[]).unwrap().sync_on_signal, Some(number));
        }
        for text in ["SIG", "0", "-1", "KILL", "9", "19", "SEGV", "32", "65"] {
            assert!(config(&[("sync-on-signal", text)], &[]).is_err(), "{text}");
        }
    }
}
