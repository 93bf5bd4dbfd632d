//! Starting, reloading and ending the run mode.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::config::{App, ConfigError as SettingError, ListenAddr, Setting, Settings};
use common::shutdown::Shutdown;
use common::watch::Watch;
use tokio::sync::Notify;

use super::config::{Config, Options};
use super::runner::{Runner, StartError};
use super::status;
use crate::family::normal::Normal;
use crate::push::Pusher;
use crate::web::{self, Page, WebError};

/// The settings table of the `run` mode.
///
/// ```
/// use metrics_adapter::{Layers, source::app::APP};
///
/// assert_eq!(Layers::new(&APP).finish().text("web.telemetry-path"), Some("/metrics"));
/// ```
pub const APP: App = App {
    after_help: "Commands, in place of a configuration alone:\n  \
        explain FILE [SOURCE [DOCUMENT]]\n  \
        \x20                      gather every source (or one) once and show what it gives, or what it makes of a\n  \
        \x20                      document (a file, or - for what comes in)\n  \
        lint FILE              show what in the configuration is likely a mistake\n  \
        test FILE CASES        check documents and expected samples of a YAML file against the configuration\n\n\
        Signals: SIGHUP reads the configuration again, SIGTERM and SIGINT end.\n\n\
        Examples:\n  \
        metrics-adapter run adapter.yaml --web.listen-address :9102\n  \
        metrics-adapter run explain adapter.yaml",
    settings: &[
        Setting::text("web.listen-address", "ADDR", "Address for metrics and status").default(":9102"),
        Setting::text("web.telemetry-path", "PATH", "Path of the metrics page").default("/metrics"),
        Setting::switch("web.enable-lifecycle", "Serve /-/reload and /-/quit").negatable(),
        Setting::text(
            "web.config.file",
            "FILE",
            "TLS and passwords, in the format of the Prometheus exporter-toolkit",
        ),
        Setting::switch("allow-exec", "Allow sources of type exec to run programs").negatable(),
    ],
    ..App::new(
        "metrics-adapter run",
        "METRICS_ADAPTER_RUN",
        "Gathers any number of sources and serves them as one Prometheus page",
    )
};

/// Where and how the page is served.
#[derive(Clone, Debug)]
pub(super) struct Web {
    pub(super) listen: ListenAddr,
    pub(super) path: String,
    pub(super) lifecycle: bool,
    pub(super) config: Option<PathBuf>,
    pub(super) reload: Arc<Notify>,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            listen: ListenAddr { host: String::new(), port: 9102 },
            path: "/metrics".to_owned(),
            lifecycle: false,
            config: None,
            reload: Arc::default(),
        }
    }
}

/// Why the mode did not start.
///
/// ```
/// use metrics_adapter::source::app::{Config, RunError, run};
/// use metrics_adapter::{ListenAddr, Shutdown};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let nowhere = ListenAddr { host: "256.0.0.1".into(), port: 1 };
/// let error = run(Config::new().listen(nowhere), Shutdown::new()).await.unwrap_err();
/// assert!(matches!(error, RunError::Web(_)));
/// # });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A source could not be started.
    #[error("a source did not start")]
    Start(#[from] StartError),
    /// A receiver that cannot be pushed to.
    #[error("pushing did not start")]
    Push(#[from] crate::push::PushError),
    /// The HTTP side could not start.
    #[error("the HTTP server did not start")]
    Web(#[from] WebError),
}

impl Config {
    /// Takes address and path of the page from settings of [`APP`].
    ///
    /// # Errors
    /// A value that does not parse.
    ///
    /// ```
    /// use metrics_adapter::Layers;
    /// use metrics_adapter::source::app::{APP, Config};
    ///
    /// let mut layers = Layers::new(&APP);
    /// layers.flag("web.listen-address", vec!["127.0.0.1:9100".into()])?;
    /// let config = Config::new().with_settings(&layers.finish())?;
    /// # Ok::<(), metrics_adapter::SettingError>(())
    /// ```
    pub fn with_settings(mut self, settings: &Settings) -> Result<Self, SettingError> {
        self.web = Web {
            listen: settings.value("web.listen-address")?,
            path: settings.text("web.telemetry-path").unwrap_or_default().to_owned(),
            lifecycle: settings.value("web.enable-lifecycle")?,
            config: settings.optional("web.config.file")?,
            reload: Arc::default(),
        };
        Ok(self)
    }

    /// The file with TLS and passwords of the page.
    #[doc(hidden)]
    #[must_use]
    pub fn web_config(&self) -> Option<&std::path::Path> {
        self.web.config.as_deref()
    }

    /// Asks a running mode to read its configuration again.
    ///
    /// ```
    /// let config = metrics_adapter::source::app::Config::new();
    /// let reload = config.reloader(); // before `config` goes into `run`
    /// reload();
    /// ```
    pub fn reloader(&self) -> impl Fn() + Send + Sync + 'static {
        let reload = Arc::clone(&self.web.reload);
        move || reload.notify_one()
    }
}

impl Options {
    /// What the settings of [`APP`] allow.
    ///
    /// # Errors
    /// A value that does not parse.
    ///
    /// ```
    /// use metrics_adapter::Layers;
    /// use metrics_adapter::source::app::{APP, Options};
    ///
    /// let options = Options::from_settings(&Layers::new(&APP).finish())?;
    /// assert!(!options.allow_exec);
    /// # Ok::<(), metrics_adapter::SettingError>(())
    /// ```
    pub fn from_settings(settings: &Settings) -> Result<Self, SettingError> {
        Ok(Self { allow_exec: settings.value("allow-exec")? })
    }
}

/// How often the file is looked at where the system sends no notifications.
const POLL: Duration = Duration::from_secs(10);

/// Runs until shutdown.
///
/// # Errors
/// When a source or the HTTP server cannot start. Once it runs it does not fail.
///
/// ```
/// use metrics_adapter::source::app::{Config, run};
/// use metrics_adapter::{ListenAddr, Shutdown};
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// let shutdown = Shutdown::new();
/// shutdown.trigger();
/// run(Config::new().listen(ListenAddr::loopback(0)), shutdown).await.unwrap();
/// # });
/// ```
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), RunError> {
    let web = web::Server::bind(&config.web.listen, config.web.config.as_deref()).await?;
    let runner = Runner::start(&config, &shutdown).await?;
    let mut pushed = Vec::new();
    for target in &config.push {
        let pusher = Pusher::new(target.clone(), Arc::<Runner>::clone(&runner))?;
        pushed.push(pusher.state());
        shutdown.spawn(pusher.run(shutdown.clone()));
    }
    shutdown.spawn(reload(config.clone(), Arc::clone(&runner), shutdown.clone()));
    let build = common::build!();
    let registry = common::metrics::registry(&build);
    let (ask, looked) = (config.reloader(), Arc::clone(&runner));
    let page = Page {
        build,
        mode: "run",
        path: config.web.path.clone(),
        lifecycle: config.web.lifecycle,
        reload: Box::new(ask),
        own: Box::new(move || {
            let mut families = crate::source::statsd::convert(&registry.gather());
            let pushed = pushed.iter().flat_map(|state| state.families()).collect();
            families.extend(Normal::default().apply(pushed).0);
            families
        }),
        status: Arc::new(move || status::look(&looked)),
        sources: vec![Arc::<Runner>::clone(&runner)],
    };
    let sources = config.sources.len();
    tracing::info!(address = %web.address(), path = config.web.path, sources, "serving metrics");
    web.serve(page, &shutdown).await;
    shutdown.drain(Duration::from_secs(5)).await;
    Ok(())
}

/// Reads the configuration again when asked to or when it changes; a broken one is not used.
async fn reload(config: Config, runner: Arc<Runner>, shutdown: Shutdown) {
    let Some(path) = config.path.clone() else { return };
    let mut watch = Watch::new([path.clone()], POLL);
    loop {
        let why = tokio::select! {
            () = config.web.reload.notified() => "asked to",
            () = watch.changed() => "file changed",
            () = shutdown.triggered() => return,
        };
        let (path, options) = (path.clone(), config.options.clone());
        match tokio::task::spawn_blocking(move || Config::load(&path, options)).await {
            Ok(Ok(new)) => {
                runner.replace(&new).await;
                runner.reloads.fetch_add(1, Ordering::Relaxed);
                tracing::info!(why, sources = new.sources.len(), "configuration read again");
            }
            Ok(Err(error)) => {
                runner.failed_reloads.fetch_add(1, Ordering::Relaxed);
                tracing::error!(why, %error, "the old configuration stays in use");
            }
            Err(error) => tracing::error!(%error, "reading the configuration failed"),
        }
    }
}
