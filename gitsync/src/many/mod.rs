//! Several sources in one process: a file lists them, and is read again when it changes. Each has the loop, the
//! working directory and the state that a process of its own would have; those of one repository share a [`Hub`]
//! and with it the object store.
//!
//! ```text
//! <root>/.gitsync/sources.json           what is on disk ([`book`])
//! <root>/.gitsync/.stores/<hash>/.git    the objects of one repository
//! <root>/.gitsync/<source>/              .git and .worktrees, as under --root of a single one
//! <root>/.gitsync/<source>/<folder>/     the same for each ref of a source with many
//! <root>/<link>, <root>/<link>/<folder>  what consumers open
//! ```

mod book;
mod plan;
mod previews;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::config::{ConfigError, Settings};
use common::metrics::registry;
use common::shutdown::Shutdown;
use common::watch::Watch;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::app::{DRAIN, Loop, Public, Seat, Trigger, open_root, prepare};
use crate::board::{Board, Counts};
use crate::config::{Config, Http, Tidy};
use crate::error::Error;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::repo::{Layout, RepoError, RootLock, list, remove_any};
use crate::trigger::{Targets, Triggers};
use crate::view::View;
use crate::{BUILD, from_settings};
use book::{Book, Entry};
use plan::{Kind, Plan, Source};
use previews::Previews;

/// The directory for all that consumers don't open.
const HIDDEN: &str = ".gitsync";
/// How often the file is looked at where the kernel doesn't tell.
const LOOK: Duration = Duration::from_secs(10);
/// Things that happened to sources and wait to be looked at: more than there can be.
const EVENTS: usize = 4_096;
/// Pause before a source is set up again that couldn't be.
const AGAIN: Duration = Duration::from_secs(10);

/// A file with several sources, and what flags and variables say about all of them.
///
/// ```
/// use gitsync::{APP, Layers, Sources};
///
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("sources.yaml");
/// std::fs::write(&file, "root: /srv/git\nsources:\n  - {name: site, repo: https://git.example/site.git}\n")?;
/// let sources = Sources::read(&file, Layers::new(&APP).finish())?.with_git_settings(vec![]);
/// assert_eq!(sources.settings().text("root"), Some("/srv/git"));
/// assert_eq!(sources.sync_on_signal(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sources {
    path: PathBuf,
    below: Settings,
    git: Vec<(String, String)>,
    plan: Plan,
}

impl Sources {
    /// Reads the file. `settings` are those of [`crate::APP`]; variables and flags among them win over what the
    /// file says for all sources, and lose against what it says for one.
    ///
    /// # Errors
    /// What is wrong, with file, line and key.
    ///
    /// ```
    /// use gitsync::{APP, Layers, Sources};
    ///
    /// let error = Sources::read("/does/not/exist.yaml", Layers::new(&APP).finish()).err().unwrap();
    /// assert!(error.to_string().contains("/does/not/exist.yaml"));
    /// ```
    pub fn read(path: impl Into<PathBuf>, settings: Settings) -> Result<Self, ConfigError> {
        let path = path.into();
        let plan = Plan::read(&path, &settings)?;
        let sources = Self { path, below: settings, git: Vec::new(), plan };
        sources.process()?;
        Ok(sources)
    }

    /// Adds settings in git's own terms to all sources; those of the file and of flags win.
    ///
    /// ```no_run
    /// # use gitsync::{APP, Layers, Sources};
    /// let sources = Sources::read("sources.yaml", Layers::new(&APP).finish())?;
    /// let sources = sources.with_git_settings(vec![("http.lowSpeedLimit".into(), "1000".into())]);
    /// # Ok::<(), gitsync::ConfigError>(())
    /// ```
    #[must_use]
    pub fn with_git_settings(self, git: Vec<(String, String)>) -> Self {
        Self { git, ..self }
    }

    /// The settings of the process and of all sources together.
    ///
    /// ```no_run
    /// # use gitsync::{APP, Layers, Sources};
    /// let sources = Sources::read("sources.yaml", Layers::new(&APP).finish())?;
    /// println!("all below {:?}", sources.settings().text("root"));
    /// # Ok::<(), gitsync::ConfigError>(())
    /// ```
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.plan.settings
    }

    /// The signal that makes all sources sync at once.
    ///
    /// ```no_run
    /// # use gitsync::{APP, Layers, Sources};
    /// let sources = Sources::read("sources.yaml", Layers::new(&APP).finish())?;
    /// if let Some(number) = sources.sync_on_signal() {
    ///     println!("the program has to fire its trigger on signal {number}");
    /// }
    /// # Ok::<(), gitsync::ConfigError>(())
    /// ```
    #[must_use]
    pub fn sync_on_signal(&self) -> Option<i32> {
        self.process().ok().and_then(|process| process.signal)
    }

    fn process(&self) -> Result<Process, ConfigError> {
        let settings = &self.plan.settings;
        Ok(Process {
            http: from_settings::http(settings)?,
            triggers: Triggers::from_settings(settings)?,
            signal: from_settings::signal(settings)?,
            once: settings.value("one-time")?,
        })
    }
}

/// What concerns the process.
struct Process {
    http: Option<Http>,
    triggers: Triggers,
    signal: Option<i32>,
    once: bool,
}

/// What all sources use.
#[derive(Clone)]
struct Shared {
    book: Book,
    board: Board,
    targets: Targets,
    metrics: Metrics,
    stores: PathBuf,
}

impl Shared {
    /// The root of a shared store.
    fn store(&self, name: &str) -> PathBuf {
        self.stores.join(name)
    }
}

/// A source at work.
struct Running {
    source: Source,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

/// Something that happened to a source.
enum Event {
    Ended(String, Result<(), Error>),
    Again(String),
}

/// Syncs all sources of a file until shutdown, or (one-time) until each has succeeded. The file is read again
/// when it changes: sources come, change and go; what one of them does never holds the others up.
///
/// # Errors
/// When the root or the HTTP address can't be used, after too many failures of a source that has a limit, or
/// (one-time) when a source or a hook failed.
///
/// ```no_run
/// use gitsync::{APP, Layers, Shutdown, Sources, Trigger, run_sources};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let sources = Sources::read("sources.yaml", Layers::new(&APP).finish())?;
/// run_sources(sources, Trigger::default(), Shutdown::new()).await?;
/// # Ok(()) }
/// ```
pub async fn run_sources(sources: Sources, trigger: Trigger, shutdown: Shutdown) -> Result<(), Error> {
    let process = sources.process().map_err(|error| Error::Setup(error.to_string()))?;
    let hidden = sources.plan.hidden();
    std::fs::create_dir_all(&hidden).map_err(|e| Error::Root(RepoError::io("creating", &hidden)(e)))?;
    let hidden = hidden.canonicalize().map_err(|e| Error::Root(RepoError::io("resolving", &hidden)(e)))?;
    let _lock = RootLock::take(&Layout::new(&hidden)).map_err(Error::Root)?;
    let registry = registry(&BUILD);
    let shared = Shared {
        book: Book::load(&hidden),
        board: Board::default(),
        targets: Targets::default(),
        metrics: Metrics::for_several(&registry),
        stores: hidden.join(".stores"),
    };
    let workers = shutdown.child();
    let (sender, mut events) = mpsc::channel(EVENTS);
    let once = process.once;
    let mut keeper = Keeper {
        sources,
        shared,
        hubs: BTreeMap::new(),
        running: BTreeMap::new(),
        failed: BTreeSet::new(),
        shutdown: shutdown.child(),
        sender,
    };
    let mut watch = Watch::new([keeper.sources.path.clone()], LOOK);
    // What changed before the watch began.
    if let Ok(plan) = Plan::read(&keeper.sources.path, &keeper.sources.below) {
        keeper.sources.plan = plan;
    }
    keeper.adjust().await;
    let (board, targets) = (keeper.shared.board.clone(), keeper.shared.targets.clone());
    let public = Public { http: process.http.as_ref(), triggers: &process.triggers };
    let mut result = public.serve(registry, &board, &keeper.shared.metrics, &targets, &workers).await;
    // Of a one-time process: the first error, while the others finish.
    let mut failure = Ok(());
    while result.is_ok() {
        tokio::select! {
            () = shutdown.triggered() => break,
            () = watch.changed(), if !once => keeper.reload().await,
            _ = trigger.fired() => targets.fire_all(),
            event = events.recv() => match event {
                Some(Event::Again(name)) => keeper.start_again(&name).await,
                Some(Event::Ended(name, ended)) => {
                    keeper.running.remove(&name);
                    match ended {
                        Err(error) if once => {
                            tracing::error!(source = name, %error, "this source has failed");
                            failure = failure.and(Err(error));
                        }
                        other => result = other,
                    }
                    if once && keeper.running.is_empty() {
                        break;
                    }
                }
                None => break,
            },
        }
    }
    drop(events);
    keeper.stop_all().await;
    workers.trigger();
    workers.drain(DRAIN).await;
    result.and(failure)
}

/// Starts and stops sources.
struct Keeper {
    sources: Sources,
    shared: Shared,
    /// By store, with the settings that they were made with as text.
    hubs: BTreeMap<String, (String, Arc<Hub>)>,
    running: BTreeMap<String, Running>,
    /// What could not be set up.
    failed: BTreeSet<String>,
    shutdown: Shutdown,
    sender: mpsc::Sender<Event>,
}

impl Keeper {
    /// Reads the file again. While it can't be used, everything stays as it is.
    async fn reload(&mut self) {
        let read = Sources::read(&self.sources.path, self.sources.below.clone());
        match read {
            Ok(new) if new.plan.root != self.sources.plan.root => {
                let problem = "the root changed, which takes a restart".to_owned();
                tracing::error!(path = %self.sources.path.display(), problem, "the sources stay as they are");
                self.shared.board.complain(Some(problem));
            }
            Ok(new) => {
                tracing::info!(path = %self.sources.path.display(), "the list of sources changed");
                self.shared.board.complain(None);
                for name in self.sources.plan.needs_restart(&new.plan) {
                    tracing::warn!(
                        name,
                        "this setting concerns the process: it counts from the next start on"
                    );
                }
                self.sources.plan = new.plan;
                self.adjust().await;
            }
            Err(error) => {
                tracing::error!(%error, "the sources stay as they are");
                self.shared.board.complain(Some(error.to_string()));
            }
        }
    }

    /// Makes what runs and what is on disk what the file says.
    async fn adjust(&mut self) {
        let plan = &self.sources.plan;
        let wanted: BTreeMap<String, Source> =
            plan.sources.iter().map(|source| (source.name.clone(), source.clone())).collect();
        let remotes = plan.remotes();
        let print = |store: &str| remotes.get(store).map(|remote| plan.print(store, remote));
        // When the settings of a remote changed, all who share it begin anew.
        let touched: BTreeSet<String> = self
            .hubs
            .iter()
            .filter(|(store, (old, _))| print(store).as_ref() != Some(old))
            .map(|(store, _)| store.clone())
            .collect();
        let changed = |source: &Source| wanted.get(&source.name).is_none_or(|new| !new.is_as(source));
        let old: Vec<String> = self
            .running
            .values()
            .filter(|running| changed(&running.source) || touched.contains(&running.source.store))
            .map(|running| running.source.name.clone())
            .collect();
        for name in &old {
            if let Some(running) = self.running.get(name) {
                running.shutdown.trigger();
            }
        }
        for name in old {
            self.stop(&name).await;
        }
        self.hubs.retain(|store, _| !touched.contains(store));
        for name in std::mem::take(&mut self.failed) {
            self.shared.board.hide(&name);
        }
        self.clean(&wanted).await;
        let new: Vec<Source> =
            wanted.into_values().filter(|source| !self.running.contains_key(&source.name)).collect();
        self.start_all(new).await;
        self.clean_stores().await;
    }

    /// Removes what is on disk of sources that are no longer there, or follow in another way.
    async fn clean(&self, wanted: &BTreeMap<String, Source>) {
        for key in self.shared.book.keys() {
            let (name, of_many) = key.split_once('/').map_or((&key[..], false), |(name, _)| (name, true));
            let stays =
                wanted.get(name).is_some_and(|source| of_many == matches!(source.kind, Kind::Many { .. }));
            if stays {
                continue;
            }
            let hub = self.shared.book.store(&key).and_then(|store| self.hubs.get(&store));
            let removing = async {
                let removed = self.shared.remove(&key, true).await?;
                match hub {
                    Some((_, hub)) => hub.tidy(removed, Tidy::WhenDue, self.shutdown.token()).await,
                    None => Ok(()),
                }
            };
            if let Err(error) = removing.await {
                tracing::error!(source = key, %error, "can't remove what is no longer followed");
            }
        }
    }

    /// Removes the stores that nobody borrows from.
    async fn clean_stores(&self) {
        let (shared, used) = (self.shared.clone(), self.hubs.keys().cloned().collect::<BTreeSet<_>>());
        let cleaned = crate::fetcher::blocking(move || {
            for path in list(&shared.stores)? {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if !used.contains(name) && !shared.book.uses(name) {
                    remove_any(&path).map_err(RepoError::io("removing", &path))?;
                }
            }
            Ok(())
        });
        if let Err(error) = cleaned.await {
            tracing::warn!(%error, "can't remove an object store that nobody uses");
        }
    }

    async fn start_again(&mut self, name: &str) {
        if self.running.contains_key(name) {
            return;
        }
        let source = self.sources.plan.sources.iter().find(|source| source.name == name).cloned();
        self.start_all(source.into_iter().collect()).await;
    }

    /// Sets all up before the first of them asks its remote, so that one question is enough.
    async fn start_all(&mut self, sources: Vec<Source>) {
        let mut ready: Vec<(Source, Work, Shutdown)> = Vec::new();
        for source in sources {
            let shutdown = self.shutdown.child();
            match self.set_up(&source, &shutdown).await {
                Ok(work) => ready.push((source, work, shutdown)),
                Err(error) => {
                    self.fail(&source, error);
                    self.failed.insert(source.name);
                }
            }
        }
        let since = Instant::now();
        for (source, work, shutdown) in ready {
            let (sender, name, until) = (self.sender.clone(), source.name.clone(), shutdown.clone());
            let task = tokio::spawn(async move {
                let result = work.run(since, &until).await;
                if !until.is_triggered() {
                    let _ = sender.send(Event::Ended(name, result)).await;
                }
            });
            self.running.insert(source.name.clone(), Running { source, shutdown, task });
        }
    }

    async fn set_up(&mut self, source: &Source, shutdown: &Shutdown) -> Result<Work, Error> {
        let config = self.prepared(source.config.clone())?;
        let hub = self.hub(&source.store)?;
        match &source.kind {
            Kind::Many { globs, max } => {
                let own = (&source.store[..], source.optional);
                Ok(Work::Many(Box::new(Previews::new(config, (globs, *max), own, hub, &self.shared))))
            }
            Kind::One => {
                let layout = open_root(&config).map_err(Error::Root)?;
                let (root, link, store) =
                    (layout.root().to_owned(), config.link.clone(), source.store.clone());
                let entry = Entry { root, link, store, reference: None };
                self.shared.book.note(&source.name, entry).map_err(Error::Root)?;
                let workers = shutdown.child();
                let seat = Seat {
                    config,
                    layout: layout.borrowing(&self.shared.store(&source.store)),
                    hub,
                    metrics: self.shared.metrics.of(&source.name),
                    feed: Arc::clone(self.shared.board.feed()),
                    trigger: Trigger::default(),
                };
                let (looping, target) = seat.take(&workers)?;
                let counts = if source.optional { Counts::No } else { Counts::Published };
                self.shared.board.show(&source.name, &looping.view, counts);
                self.shared.targets.add(&source.name, target);
                Ok(Work::One(Box::new(looping), workers))
            }
        }
    }

    fn prepared(&self, mut config: Config) -> Result<Arc<Config>, Error> {
        config.git.add_below(self.sources.git.clone());
        prepare(config)
    }

    fn hub(&mut self, store: &str) -> Result<Arc<Hub>, Error> {
        if let Some((_, hub)) = self.hubs.get(store) {
            return Ok(Arc::clone(hub));
        }
        let plan = &self.sources.plan;
        let config = plan.remote(store);
        let config = config.ok_or_else(|| Error::Setup(format!("no source uses the store {store}")))?;
        let print = plan.print(store, &config);
        let (book, name) = (self.shared.book.clone(), store.to_owned());
        let members = move || book.members(&name);
        let layout = Layout::new(self.shared.store(store));
        let hub = Hub::shared(&self.prepared(config)?, layout, members).map_err(Error::Remote)?;
        self.hubs.insert(store.to_owned(), (print, Arc::clone(&hub)));
        Ok(hub)
    }

    /// Shows a source that can't even begin, and tries again later.
    fn fail(&self, source: &Source, error: Error) {
        tracing::error!(source = source.name, %error, "can't set up this source, will retry");
        let config = &source.config;
        let view =
            View::new(&config.repo, &config.follow().to_string(), &config.link, self.shared.board.feed());
        view.failure(&error.to_string(), 1, Duration::ZERO, Vec::new());
        let counts = if source.optional { Counts::No } else { Counts::Published };
        self.shared.board.show(&source.name, &view, counts);
        let (sender, name) = (self.sender.clone(), source.name.clone());
        let once = source.config.one_time;
        self.shutdown.spawn({
            let shutdown = self.shutdown.clone();
            async move {
                let event = match once {
                    true => Event::Ended(name, Err(error)),
                    false => {
                        tokio::select! {
                            () = tokio::time::sleep(AGAIN) => {}
                            () = shutdown.triggered() => return,
                        }
                        Event::Again(name)
                    }
                };
                let _ = sender.send(event).await;
            }
        });
    }

    async fn stop(&mut self, name: &str) {
        let Some(running) = self.running.remove(name) else { return };
        running.shutdown.trigger();
        stop(running.task).await;
        if let Some((_, hub)) = self.hubs.get(&running.source.store) {
            hub.unfollow(name);
        }
        self.shared.targets.remove(name);
        self.shared.board.hide(name);
        self.shared.metrics.of(name).forget();
    }

    async fn stop_all(&mut self) {
        self.shutdown.trigger();
        let names: Vec<String> = self.running.keys().cloned().collect();
        for name in names {
            if let Some(running) = self.running.remove(&name) {
                stop(running.task).await;
            }
        }
        self.shutdown.drain(DRAIN).await;
    }
}

/// What a source does.
enum Work {
    One(Box<Loop>, Shutdown),
    Many(Box<Previews>),
}

impl Work {
    async fn run(self, since: Instant, shutdown: &Shutdown) -> Result<(), Error> {
        match self {
            Self::One(mut looping, workers) => {
                let result = looping.run(since, shutdown).await;
                workers.trigger();
                workers.drain(DRAIN).await;
                result
            }
            Self::Many(previews) => previews.run(since, shutdown).await,
        }
    }
}

/// Waits for a task that was told to end.
async fn stop<T>(task: JoinHandle<T>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "a source ended badly");
    }
}
