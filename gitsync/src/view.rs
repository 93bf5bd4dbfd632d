//! What the loop lets others see: the status page, the error file.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use common::status::{Cell, Chart, Health, Section};
use tokio::sync::watch;

use crate::metrics::Status;
use crate::news::News;
use crate::orders::Orders;
use crate::protocol::ObjectId;
use crate::redact;

/// Attempts shown on the status page.
const SHOWN: usize = 60;

/// Shared state of one sync loop.
#[derive(Debug, Clone)]
pub(crate) struct View(Arc<Mutex<State>>, Arc<watch::Sender<Option<Arc<News>>>>);

#[derive(Debug)]
struct State {
    repo: String,
    reference: String,
    link: PathBuf,
    published: Option<(ObjectId, SystemTime)>,
    attempts: VecDeque<Attempt>,
    last_success: Option<SystemTime>,
    failures: u32,
    error: Option<String>,
    succeeded: bool,
    serving: bool,
    orders: Option<Orders>,
    /// When the next attempt begins by itself.
    next: Option<SystemTime>,
    /// What of the published commit is kept with LFS.
    lfs: Option<crate::lfs::Extent>,
    /// Whether the page itself can be used to give orders.
    steers: bool,
}

#[derive(Debug)]
struct Attempt {
    ended: SystemTime,
    took: Duration,
    status: Status,
    text: String,
    phases: Phases,
}

/// What an attempt spent its time on.
pub(crate) type Phases = Vec<(&'static str, Duration)>;

/// In the order they come; each has a chart.
const PHASES: &[&str] = &["ask", "fetch", "lfs", "check out", "publish", "tidy"];

impl View {
    pub(crate) fn new(repo: &str, reference: &str, link: &Path) -> Self {
        Self(
            Arc::new(Mutex::new(State {
                repo: redact::url(repo),
                reference: reference.to_owned(),
                link: link.to_owned(),
                published: None,
                attempts: VecDeque::with_capacity(SHOWN),
                last_success: None,
                failures: 0,
                error: None,
                succeeded: false,
                serving: false,
                orders: None,
                next: None,
                lfs: None,
                steers: false,
            })),
            Arc::default(),
        )
    }

    /// Shows also what overrules the ref.
    pub(crate) fn with_orders(self, orders: Orders) -> Self {
        self.lock().orders = Some(orders);
        self
    }

    /// The page gets buttons.
    pub(crate) fn allow_steering(&self) {
        self.lock().steers = true;
    }

    /// The next attempt begins after `pause`, unless somebody asks for one before.
    pub(crate) fn pausing(&self, pause: Option<Duration>) {
        self.lock().next = pause.and_then(|pause| SystemTime::now().checked_add(pause));
    }

    /// What of the published commit is kept with LFS.
    pub(crate) fn lfs(&self, extent: Option<crate::lfs::Extent>) {
        self.lock().lfs = extent;
    }

    /// Publications as they come.
    pub(crate) fn listen(&self) -> watch::Receiver<Option<Arc<News>>> {
        self.1.subscribe()
    }

    /// Something was published.
    pub(crate) fn tell(&self, news: &Arc<News>) {
        self.1.send_replace(Some(Arc::clone(news)));
    }

    /// A good tree was found on disk at start.
    pub(crate) fn found(&self, commit: ObjectId) {
        let mut state = self.lock();
        state.serving = true;
        state.published = Some((commit, SystemTime::now()));
    }

    pub(crate) fn success(&self, commit: ObjectId, status: Status, took: Duration, phases: Phases) {
        let mut state = self.lock();
        let now = SystemTime::now();
        if state.published.is_none_or(|(old, _)| old != commit) {
            state.published = Some((commit, now));
        }
        state.last_success = Some(now);
        state.failures = 0;
        state.error = None;
        state.succeeded = true;
        state.serving = true;
        state.note(Attempt { ended: now, took, status, text: short(commit), phases });
    }

    pub(crate) fn failure(&self, error: &str, failures: u32, took: Duration, phases: Phases) {
        let mut state = self.lock();
        state.failures = failures;
        state.error = Some(error.to_owned());
        state.note(Attempt {
            ended: SystemTime::now(),
            took,
            status: Status::Error,
            text: error.to_owned(),
            phases,
        });
    }

    /// Whether consumers have something to read.
    pub(crate) fn is_serving(&self) -> bool {
        self.lock().serving
    }

    /// Why the published tree may be old, if so.
    pub(crate) fn stale(&self) -> Option<String> {
        let state = self.lock();
        state.error.as_ref().filter(|_| state.serving).map(|error| {
            let since = state.last_success.map_or_else(|| "this start".to_owned(), ago);
            format!("stale: no success since {since}; {error}")
        })
    }

    /// The page.
    pub(crate) fn status(&self) -> common::status::Status {
        let state = self.lock();
        let (health, headline) = match (&state.published, &state.error) {
            (Some((commit, _)), None) => (Health::Good, format!("{} is published", short(*commit))),
            (Some((commit, _)), Some(_)) => {
                (Health::Warning, format!("{} is published, but may be old", short(*commit)))
            }
            (None, None) => (Health::Neutral, "the first sync is under way".to_owned()),
            (None, Some(_)) => (Health::Bad, "nothing is published".to_owned()),
        };
        let mut facts: Vec<(&str, Cell)> = vec![
            ("Repository", state.repo.clone().into()),
            ("Ref", state.reference.clone().into()),
            ("Link", state.link.display().to_string().into()),
        ];
        if let Some((commit, since)) = &state.published {
            facts.push(("Commit", commit.to_string().into()));
            facts.push(("Published", ago(*since).into()));
        }
        if let Some(lfs) = &state.lfs {
            facts.push(("Git LFS", lfs.to_string().into()));
        }
        let news = self.1.borrow().clone();
        if let Some(news) = &news {
            if let Some(commit) = &news.commit {
                facts.push(("Author", commit.author.clone().into()));
                facts.push(("Subject", commit.subject.clone().into()));
            }
            if let Some(changes) = &news.changes {
                facts.push(("Changed files", changes.total.to_string().into()));
            }
        }
        if let Some(reason) = state.orders.as_ref().and_then(Orders::reason) {
            facts.push(("Ref not followed", Cell::new(Health::Warning, reason)));
        }
        if let Some(last) = state.last_success {
            facts.push(("Last success", ago(last).into()));
        }
        if let Some(error) = &state.error {
            facts.push(("Failures in a row", Cell::new(Health::Bad, state.failures.to_string())));
            facts.push(("Last error", Cell::new(Health::Bad, error.clone())));
        }
        if let Some(next) = state.next {
            let left = next.duration_since(SystemTime::now()).unwrap_or_default();
            facts.push(("Next attempt", format!("in {} s", left.as_secs_f64().ceil()).into()));
        }
        let seconds = state.attempts.iter().map(|attempt| Some(attempt.took.as_secs_f64() * 1e3)).collect();
        let rows = state.attempts.iter().rev().take(10).map(|attempt| {
            let health = if attempt.status == Status::Error { Health::Bad } else { Health::Good };
            let took = format!("{:.1} ms", attempt.took.as_secs_f64() * 1e3);
            vec![
                Cell::from(ago(attempt.ended)),
                Cell::new(health, attempt.status.text()),
                Cell::from(took),
                Cell::from(attempt.text.clone()),
            ]
        });
        let mut charts = vec![Chart { title: "Duration".to_owned(), unit: "ms".to_owned(), values: seconds }];
        for name in PHASES {
            let value = |attempt: &Attempt| {
                let spent = attempt.phases.iter().filter(|(phase, _)| phase == name).map(|(_, took)| *took);
                Some(spent.sum::<Duration>())
                    .filter(|took| !took.is_zero())
                    .map(|took| took.as_secs_f64() * 1e3)
            };
            let values: Vec<_> = state.attempts.iter().map(value).collect();
            if values.iter().any(Option::is_some) {
                charts.push(Chart { title: (*name).to_owned(), unit: "ms".to_owned(), values });
            }
        }
        let mut page = common::status::Status::new(health, headline);
        if state.steers {
            page = page
                .call("Sync now", "/sync?wait")
                .call("Roll back", "/rollback")
                .call("Pin", "/pin")
                .call("Unpin", "/unpin");
        }
        page.details(news.map_or(serde_json::Value::Null, |news| news.to_json()))
            .section(Section::facts("Source", facts))
            .section(Section::charts("Attempts", charts))
            .section(Section::table("Last attempts", &["When", "Outcome", "Took", "What"], rows.collect()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, attempt: Attempt) {
        if self.attempts.len() == SHOWN {
            self.attempts.pop_front();
        }
        self.attempts.push_back(attempt);
    }
}

fn short(commit: ObjectId) -> String {
    commit.to_string()[..10].to_owned()
}

fn ago(time: SystemTime) -> String {
    let seconds = time.elapsed().unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// The file that holds the last error for others.
pub(crate) struct ErrorFile(Option<PathBuf>);

impl ErrorFile {
    pub(crate) fn new(root: &Path, path: Option<&Path>) -> Self {
        Self(path.map(|path| root.join(path)))
    }

    /// Replaces the file with one JSON object.
    pub(crate) fn write(&self, message: &str, error: &str, failures: u32) {
        let Some(path) = &self.0 else { return };
        let content = serde_json::json!({ "Msg": message, "Err": error, "Args": { "failCount": failures } });
        let written = path
            .parent()
            .map_or(
                Ok(()),
                |directory| if directory.is_dir() { Ok(()) } else { std::fs::create_dir(directory) },
            )
            .and_then(|()| common::fs::write_atomically(path, format!("{content}\n").as_bytes(), 0o644));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "can't write the error file");
        }
    }

    /// Removes the file: all is well.
    pub(crate) fn clear(&self) {
        let Some(path) = &self.0 else { return };
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "can't remove the error file");
        }
    }
}
