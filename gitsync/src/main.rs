//! The `gitsync` binary: flags, logging, signals, exit status.

mod variables;

use std::process::ExitCode;
use std::time::Duration;

use common::cli::{Invocation, Parsed, Shared, parse, refuse_config};
use common::config::{ConfigError, Origin, Setting, Settings};
use common::runtime::{Options, run};
use common::telemetry::{self, JsonKeys, LogLevel};
use gitsync::{APP, BUILD, Config, DEPRECATED, Shutdown, Sources, Trigger};
use tokio::signal::unix::{SignalKind, signal};

/// kubernetes/git-sync ignores words that are no flags; more than this many are a mistake.
const MAX_WORDS: usize = 64;

/// The operator page is the manual.
const MANUAL: &str = include_str!("../README.md");

fn main() -> ExitCode {
    give_memory_back();
    // Before the flags, even `--version`, as kubernetes/git-sync does.
    if let Some(error) = variables::unreadable() {
        eprintln!("gitsync: error: {error}");
        return ExitCode::FAILURE;
    }
    let arguments = std::env::args_os().map(|word| if word == "-?" { "--help".into() } else { word });
    let shared = Shared { words: Some(("IGNORED", MAX_WORDS)), ..Shared::default() };
    let invocation = match parse(&BUILD, &APP, shared, arguments) {
        Parsed::Run(invocation) => *invocation,
        Parsed::Exit(code) => return code,
    };
    if invocation.settings.value("man").unwrap_or(false) {
        print!("{MANUAL}");
        return ExitCode::SUCCESS;
    }
    warn_of_old_names(&invocation.settings);
    if let Some(error) = variables::first_unreadable(&invocation.settings) {
        return refuse(&invocation.settings, &error);
    }
    let work = match Work::read(&invocation.settings) {
        Ok(work) => work,
        Err(error) => return refuse(&invocation.settings, &error),
    };
    if invocation.check_config {
        println!("gitsync: the configuration is good");
        return ExitCode::SUCCESS;
    }
    start(&invocation, work)
}

/// What there is to do.
enum Work {
    One(Box<Config>),
    Many(Box<Sources>),
}

impl Work {
    fn read(settings: &Settings) -> Result<Self, ConfigError> {
        match settings.text("sources").filter(|path| !path.is_empty()) {
            Some(path) => Sources::read(path, settings.clone()).map(|sources| Self::Many(Box::new(sources))),
            None => Config::from_settings(settings).map(|config| Self::One(Box::new(config))),
        }
    }

    /// Takes in what git reads from the environment. What was set for this program in particular comes later,
    /// and so wins.
    fn with_git_settings(self, git: Vec<(String, String)>) -> Self {
        match self {
            Self::One(mut config) => {
                config.git.add_below(git);
                Self::One(config)
            }
            Self::Many(sources) => Self::Many(Box::new(sources.with_git_settings(git))),
        }
    }

    fn sync_on_signal(&self) -> Option<i32> {
        match self {
            Self::One(config) => config.sync_on_signal,
            Self::Many(sources) => sources.sync_on_signal(),
        }
    }

    async fn run(self, trigger: Trigger, shutdown: Shutdown) -> Result<(), gitsync::Error> {
        match self {
            Self::One(config) => gitsync::run_triggered(*config, trigger, shutdown).await,
            Self::Many(sources) => gitsync::run_sources(*sources, trigger, shutdown).await,
        }
    }
}

/// Without these, glibc keeps what an update needed, a few megabytes, for the next one: most of what an
/// idle process of this size would then hold.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn give_memory_back() {
    // SAFETY: sets two numbers of the allocator, before there is a second thread.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

#[cfg(not(target_env = "gnu"))]
fn give_memory_back() {}

/// What git reads from the environment, where it means something here.
fn git_environment() -> Vec<(String, String)> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut pairs = Vec::new();
    if let Some(path) = variable("GIT_SSL_CAINFO") {
        pairs.push(("http.sslcainfo".to_owned(), path));
    }
    if std::env::var_os("GIT_SSL_NO_VERIFY").is_some() {
        pairs.push(("http.sslverify".to_owned(), "false".to_owned()));
    }
    if let Some(agent) = variable("GIT_HTTP_USER_AGENT") {
        pairs.push(("http.useragent".to_owned(), agent));
    }
    pairs
}

fn start(invocation: &Invocation, work: Work) -> ExitCode {
    let settings = match &work {
        Work::One(_) => invocation.settings.clone(),
        Work::Many(sources) => sources.settings().clone(),
    };
    let work = work.with_git_settings(git_environment());
    telemetry::start_as(invocation.log_format, &log_level(invocation, &settings), JsonKeys::Logr);
    telemetry::start_traces(&BUILD);
    // For everything this process and its hooks write.
    let mask = if settings.value("group-write").unwrap_or(false) { 0o002 } else { 0o022 };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
    let changed: Vec<_> = settings
        .changed()
        .into_iter()
        .map(|(name, text)| format!("--{name}={}", shown(name, &text)))
        .collect();
    tracing::info!(
        version = BUILD.version,
        revision = BUILD.revision,
        pid = std::process::id(),
        uid = rustix::process::getuid().as_raw(),
        gid = rustix::process::getgid().as_raw(),
        home = std::env::var("HOME").unwrap_or_default(),
        flags = changed.join(" "),
        "starting up"
    );
    if settings.text("git").is_some_and(|git| git != "git") {
        tracing::warn!("--git is ignored: no git program is run");
    }
    for variable in ["GIT_SSH_COMMAND", "GIT_SSH", "GIT_PROXY_COMMAND"] {
        if std::env::var_os(variable).is_some_and(|value| !value.is_empty()) {
            tracing::warn!(variable, "this variable is ignored: no ssh or proxy program is run");
        }
    }
    let options =
        Options { threads: 1, deadline: Duration::from_millis(900), other_meaning: work.sync_on_signal() };
    run(options, |shutdown| async move {
        let trigger = Trigger::default();
        if let Some(number) = work.sync_on_signal() {
            let mut stream =
                signal(SignalKind::from_raw(number)).map_err(|e| gitsync::Error::Setup(e.to_string()))?;
            let trigger = trigger.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    tracing::info!("signal received, syncing now");
                    trigger.fire();
                }
            });
        }
        work.run(trigger, shutdown).await
    })
}

/// A wrong flag is 2, as always; kubernetes/git-sync leaves with 1 for a wrong variable or combination.
fn refuse(settings: &Settings, error: &ConfigError) -> ExitCode {
    let code = refuse_config(&APP, error);
    if let Some(path) = settings.text("error-file").filter(|path| !path.is_empty())
        && let Some(root) = settings.text("root").filter(|root| !root.is_empty())
    {
        let path = std::path::Path::new(root).join(path);
        // One level, as in kubernetes/git-sync; if that fails, so does what follows.
        let _ = path.parent().map(std::fs::create_dir);
        if let Err(error) = common::fs::write_atomically(&path, error.to_string().as_bytes(), 0o644) {
            eprintln!("gitsync: can't write {}: {error}", path.display());
        }
    }
    match error {
        ConfigError::Value { place, .. } if place.starts_with("--") && is_unparsable(settings, place) => code,
        ConfigError::File { .. } | ConfigError::UnknownKey { .. } => code,
        _ => ExitCode::FAILURE,
    }
}

fn is_unparsable(settings: &Settings, place: &str) -> bool {
    let name = place.trim_start_matches('-').split(':').next().unwrap_or_default();
    settings.origin(name).is_some_and(|origin| *origin == Origin::Flag)
}

fn warn_of_old_names(settings: &Settings) {
    for (name, instead) in DEPRECATED {
        if settings.origin(name).is_some_and(|origin| *origin == Origin::Flag) {
            eprintln!("Flag --{name} has been deprecated, use {instead}");
        }
    }
    for setting in APP.settings {
        if let Some(Origin::Environment(variable)) = settings.origin(setting.name)
            && !variable.starts_with("GITSYNC_")
        {
            let own = APP.env_name(setting);
            let instead = replacement(setting).map_or_else(|| own.clone(), |newer| APP.env_name(newer));
            eprintln!("Env {variable} has been deprecated, use {instead} instead");
            if std::env::var_os(&own).is_some() {
                eprintln!("Both {variable} and {own} are set; {variable} wins");
            }
        }
    }
}

/// The setting that took a deprecated one's place.
fn replacement(setting: &Setting) -> Option<&'static Setting> {
    let (_, instead) = DEPRECATED.iter().find(|(name, _)| *name == setting.name)?;
    let name = instead.strip_prefix("--")?;
    APP.settings.iter().find(|newer| newer.name == name)
}

/// `--verbose` raises the level, unless `--log-level` says more: steps from 1, what is asked of others (a
/// remote, a program) from 5, what they answer from 6, the libraries for HTTP and SSH from 7.
fn log_level(invocation: &Invocation, settings: &Settings) -> LogLevel {
    use common::config::FromSetting as _;
    let number = |name| settings.value::<i64>(name).unwrap_or(-1);
    let wanted = match number("verbose").max(number("v")) {
        ..=0 => return invocation.log_level.clone(),
        1..=4 => "info,gitsync=debug,gitsync::command=off,gitsync::result=off",
        5 => "info,gitsync=debug,gitsync::result=off",
        6 => "info,gitsync=debug",
        7..=8 => "debug",
        _ => "trace",
    };
    LogLevel::from_setting(wanted).unwrap_or_default()
}

/// A setting's value for the start-up line.
fn shown(name: &str, text: &str) -> String {
    let lower = name.to_ascii_lowercase().replace('_', "-");
    let is_secret =
        (lower.contains("password") || lower.contains("private-key")) && !lower.ends_with("-file");
    match name {
        _ if is_secret => "REDACTED".to_owned(),
        // A header in there may be a token.
        "credential" | "webhook-header" | "git-config" | "git-config-add" => "REDACTED".to_owned(),
        "repo" | "webhook-url" | "webhook-extra-url" | "askpass-url" => gitsync::redact_url(text),
        _ => text.to_owned(),
    }
}
