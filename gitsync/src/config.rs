//! The validated configuration. No flags in here, only what they mean.

use std::path::PathBuf;
use std::time::Duration;

use common::config::ListenAddr;

use crate::auth::git_config::GitConfig;
use crate::auth::github_app::App;
use crate::auth::store::Credential;
use crate::protocol::Follow;

/// What to sync, where to and when. Made by [`Config::new`] and changed field by field.
///
/// ```
/// use gitsync::{Config, Mode};
/// use std::time::Duration;
///
/// let mut config = Config::new("https://git.example/site.git", "/srv/git");
/// config.reference = "v1.2".into();
/// config.publish = Mode::Exchange;
/// config.period = Duration::from_secs(60);
/// assert_eq!(config.link.to_str(), Some("site.git"), "named like the repository");
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// What it is called among several sources; `None`: it is the only one.
    pub name: Option<String>,
    /// Remote address, without user and password for http and https.
    pub repo: String,
    /// Branch, tag, full hash, full ref name, or `HEAD`.
    pub reference: String,
    /// Follow the tag of the newest version in this range, and not `reference`.
    pub versions: Option<semver::VersionReq>,
    /// Commits of history; 0 for all of it.
    pub depth: u32,
    /// What to do about submodules.
    pub submodules: Submodules,
    /// Replace LFS pointers by what they stand for.
    pub lfs: bool,
    /// Settings in git's own terms; those that mean something here are honoured.
    pub git: GitConfig,
    /// What a fetch may leave out at first (`blob:none`, `blob:limit=BYTES`, `tree:DEPTH`); what the checkout
    /// needs of it is fetched after.
    pub filter: Option<String>,
    /// Patterns of what to check out.
    pub sparse_checkout_file: Option<PathBuf>,
    /// Working directory.
    pub root: PathBuf,
    /// The published symlink, relative to the root or absolute.
    pub link: PathBuf,
    /// What is at the published path.
    pub publish: crate::publish::Mode,
    /// The folder of the repository that is published; `None`: all of it.
    pub subpath: Option<PathBuf>,
    /// How what is published differs from the checkout.
    pub web: crate::publish::Web,
    /// Touched after each change.
    pub touch_file: Option<PathBuf>,
    /// Holds the last error.
    pub error_file: Option<PathBuf>,
    /// How long a replaced checkout stays.
    pub stale_worktree_timeout: Duration,
    /// Pause between attempts.
    pub period: Duration,
    /// Pause until the first success.
    pub init_period: Duration,
    /// Limit of one attempt.
    pub sync_timeout: Duration,
    /// Leave after the first success.
    pub one_time: bool,
    /// Failures in a row that end the process; negative for never. `None`: at the first, but not
    /// while a good tree is published.
    pub max_failures: Option<i64>,
    /// The same until the first success; `None`: as `max_failures`.
    pub init_max_failures: Option<i64>,
    /// How much a pause may differ from its length, as a share of it: 0 to 1.
    pub jitter: f64,
    /// While attempts fail, pauses grow up to this; `None`: they stay the same.
    pub max_period: Option<Duration>,
    /// How unchanged files of an earlier checkout are used again.
    pub reuse: crate::repo::Reuse,
    /// Who may start a sync from outside.
    pub triggers: crate::trigger::Triggers,
    /// Number of the signal that starts a sync at once.
    pub sync_on_signal: Option<i32>,
    /// Programs and requests around publication.
    pub hooks: Hooks,
    /// Which signatures are asked for, and whose.
    pub verification: crate::verify::Verification,
    /// Asked after publication whether to keep it.
    pub probe: Option<Probe>,
    /// Replaced checkouts that stay whatever their age.
    pub keep: usize,
    /// How to log in.
    pub credentials: Credentials,
    /// Where to serve HTTP, if anywhere.
    pub http: Option<Http>,
    /// Tidying of the object store after an update.
    pub tidy: Tidy,
    /// Settings of HTTP remotes.
    pub transport: crate::transport::HttpOptions,
    /// Keys and known hosts of SSH remotes.
    pub ssh: crate::ssh::Options,
    /// Settings that were given and left out of account, with the reason; logged at start.
    pub passed_over: Vec<String>,
}

/// What to do about submodules.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
///
/// config.submodules = gitsync::Submodules::Off;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submodules {
    /// All levels.
    Recursive,
    /// The first level only.
    Shallow,
    /// None.
    Off,
}

/// Tidying of the object store.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
///
/// config.tidy = gitsync::Tidy::EachTime;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tidy {
    /// Never.
    Off,
    /// When there are many packs.
    ManyPacks,
    /// When there are many packs, or much in them that nobody needs any more.
    WhenDue,
    /// After each update.
    EachTime,
}

/// Programs and requests around publication.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
/// use gitsync::{ExecHook, Hooks};
/// use std::time::Duration;
///
/// let check = ExecHook {
///     command: "bin/check".into(),
///     timeout: Duration::from_secs(30),
///     backoff: Duration::from_secs(3),
/// };
/// config.hooks = Hooks { pre_publish: Some(check), ..Hooks::default() };
/// ```
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Run after publication.
    pub exec: Option<ExecHook>,
    /// Run before publication.
    pub pre_publish: Option<ExecHook>,
    /// Don't wait for `pre_publish` and its verdict.
    pub pre_publish_async: bool,
    /// Sent after publication.
    pub web: Option<WebHook>,
}

/// A program.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
/// use std::time::Duration;
///
/// config.hooks.exec = Some(gitsync::ExecHook {
///     command: "/usr/local/bin/reload".into(),
///     timeout: Duration::from_secs(30),
///     backoff: Duration::from_secs(3),
/// });
/// ```
#[derive(Debug, Clone)]
pub struct ExecHook {
    /// Found in `PATH` or relative to the checkout; gets no arguments.
    pub command: String,
    /// Limit of one run.
    pub timeout: Duration,
    /// Pause before it is tried again.
    pub backoff: Duration,
}

/// A request.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
/// use std::time::Duration;
///
/// config.hooks.web = Some(gitsync::WebHook {
///     url: "http://127.0.0.1:8080/reload".into(),
///     more_urls: vec![],
///     headers: vec![("X-From".into(), "gitsync".into())],
///     json: true,
///     secret_file: None,
///     method: "POST".into(),
///     success_status: Some(200),
///     timeout: Duration::from_secs(1),
///     backoff: Duration::from_secs(3),
/// });
/// ```
#[derive(Debug, Clone)]
pub struct WebHook {
    /// Where to.
    pub url: String,
    /// The same to others, each tried on its own.
    pub more_urls: Vec<String>,
    /// Further headers; not sent to where a redirect leads.
    pub headers: Vec<(String, String)>,
    /// Tell in the body what changed.
    pub json: bool,
    /// Key of a signature; the first line, read each time.
    pub secret_file: Option<PathBuf>,
    /// HTTP method.
    pub method: String,
    /// The status that counts as success; `None` for any.
    pub success_status: Option<u16>,
    /// Limit of one request.
    pub timeout: Duration,
    /// Pause before it is tried again.
    pub backoff: Duration,
}

/// A neighbour that is asked after publication.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
/// use std::time::Duration;
///
/// config.probe = Some(gitsync::Probe {
///     url: "http://127.0.0.1:8080/healthz".into(),
///     timeout: Duration::from_secs(10),
///     delay: Duration::from_secs(1),
/// });
/// ```
#[derive(Debug, Clone)]
pub struct Probe {
    /// http or https.
    pub url: String,
    /// Time for a good answer (200 to 399).
    pub timeout: Duration,
    /// Pause before the first question.
    pub delay: Duration,
}

/// How to log in.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
/// use gitsync::{Credential, Credentials, Password};
///
/// config.credentials = Credentials {
///     by_url: vec![Credential {
///         url: config.repo.clone(),
///         username: "bot".into(),
///         password: Password::File("/etc/git-secret/token".into()),
///     }],
///     ..Credentials::default()
/// };
/// ```
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// By URL; the one for `repo` first.
    pub by_url: Vec<Credential>,
    /// Asked before every attempt.
    pub askpass_url: Option<String>,
    /// Cookies in the Netscape format.
    pub cookie_file: Option<PathBuf>,
    /// Files in the format of `git credential-store`, read before every attempt; may be missing.
    pub stores: Vec<PathBuf>,
    /// A GitHub App.
    pub github_app: Option<App>,
}

/// The HTTP endpoint.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
/// use gitsync::{Http, ListenAddr};
///
/// let bind = ListenAddr { host: String::new(), port: 2020 };
/// config.http = Some(Http { bind, metrics: true, pprof: false, events: true });
/// ```
#[derive(Debug, Clone)]
pub struct Http {
    /// Where to listen.
    pub bind: ListenAddr,
    /// Serve `/metrics`.
    pub metrics: bool,
    /// Serve `/debug/pprof/`.
    pub pprof: bool,
    /// Serve `/events`.
    pub events: bool,
}

impl Config {
    /// The defaults: `HEAD`, depth 1, every 10 s, link named like the repository.
    ///
    /// ```
    /// use gitsync::Config;
    ///
    /// let config = Config::new("https://git.example/site.git", "/srv/git");
    /// assert_eq!((config.reference.as_str(), config.depth), ("HEAD", 1));
    /// ```
    pub fn new(repo: impl Into<String>, root: impl Into<PathBuf>) -> Self {
        let repo = repo.into();
        Self {
            link: PathBuf::from(last_part(&repo)),
            name: None,
            repo,
            reference: "HEAD".to_owned(),
            versions: None,
            depth: 1,
            submodules: Submodules::Recursive,
            lfs: false,
            git: GitConfig::default(),
            filter: None,
            sparse_checkout_file: None,
            root: root.into(),
            publish: crate::publish::Mode::Symlink,
            subpath: None,
            web: crate::publish::Web::default(),
            touch_file: None,
            error_file: None,
            stale_worktree_timeout: Duration::ZERO,
            period: Duration::from_secs(10),
            init_period: Duration::from_secs(10),
            sync_timeout: Duration::from_secs(120),
            one_time: false,
            max_failures: None,
            init_max_failures: None,
            jitter: 0.0,
            max_period: None,
            reuse: crate::repo::Reuse::Off,
            triggers: crate::trigger::Triggers::default(),
            sync_on_signal: None,
            hooks: Hooks::default(),
            verification: crate::verify::Verification::default(),
            probe: None,
            keep: 0,
            credentials: Credentials::default(),
            http: None,
            tidy: Tidy::WhenDue,
            transport: crate::transport::HttpOptions::default(),
            ssh: crate::ssh::Options::default(),
            passed_over: Vec::new(),
        }
    }
}

impl Config {
    /// Which ref is followed.
    #[doc(hidden)]
    #[must_use]
    pub fn follow(&self) -> Follow {
        match &self.versions {
            Some(range) => Follow::Newest(range.clone()),
            None => Follow::Name(self.reference.clone()),
        }
    }
}

/// The link's default name: the last part of the address, a `.git` suffix included.
pub(crate) fn last_part(repo: &str) -> String {
    let trimmed = repo.trim_end_matches('/');
    trimmed.rsplit('/').next().unwrap_or(trimmed).to_owned()
}
