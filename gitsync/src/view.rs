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

/// The newest publication of each source, with a number that grows.
pub(crate) type Newest = Vec<(u64, Arc<News>)>;
/// Where publications are told.
pub(crate) type Feed = watch::Sender<Newest>;

/// Shared state of one sync loop.
#[derive(Debug, Clone)]
pub(crate) struct View {
    state: Arc<Mutex<State>>,
    /// Where publications are told.
    feed: Arc<Feed>,
}

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
    /// The newest publication of this process.
    news: Option<Arc<News>>,
    /// For a source of many refs: how many are followed.
    followed: Option<usize>,
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
    pub(crate) fn new(repo: &str, reference: &str, link: &Path, feed: &Arc<Feed>) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
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
                news: None,
                followed: None,
            })),
            feed: Arc::clone(feed),
        }
    }

    /// Shows also what overrules the ref.
    pub(crate) fn with_orders(self, orders: Orders) -> Self {
        self.lock().orders = Some(orders);
        self
    }

    /// The next attempt begins after `pause`, unless somebody asks for one before.
    pub(crate) fn pausing(&self, pause: Option<Duration>) {
        self.lock().next = pause.and_then(|pause| SystemTime::now().checked_add(pause));
    }

    /// What of the published commit is kept with LFS.
    pub(crate) fn lfs(&self, extent: Option<crate::lfs::Extent>) {
        self.lock().lfs = extent;
    }

    /// Something was published.
    pub(crate) fn tell(&self, news: &Arc<News>) {
        self.lock().news = Some(Arc::clone(news));
        self.feed.send_modify(|all| {
            let number = all.last().map_or(1, |(number, _)| number + 1);
            all.retain(|(_, other)| other.source != news.source);
            all.push((number, Arc::clone(news)));
        });
    }

    /// A source of many refs follows so many of them.
    pub(crate) fn follows(&self, count: usize, took: Duration) {
        let mut state = self.lock();
        let now = SystemTime::now();
        state.followed = Some(count);
        state.last_success = Some(now);
        (state.failures, state.error) = (0, None);
        (state.succeeded, state.serving) = (true, true);
        let text = format!("{count} refs");
        state.note(Attempt { ended: now, took, status: Status::Noop, text, phases: Phases::new() });
    }

    /// Whether an attempt has ended, well or not.
    pub(crate) fn was_tried(&self) -> bool {
        !self.lock().attempts.is_empty()
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

    /// Tidying up after the last attempt took this long.
    pub(crate) fn tidied(&self, took: Duration) {
        if let Some(last) = self.lock().attempts.back_mut() {
            last.phases.push(("tidy", took));
        }
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

    /// How it is, in a word and in a sentence.
    pub(crate) fn headline(&self) -> (Health, String) {
        let state = self.lock();
        match (&state.published, &state.error) {
            (Some((commit, _)), None) => (Health::Good, format!("{} is published", short(*commit))),
            (Some((commit, _)), Some(_)) => {
                (Health::Warning, format!("{} is published, but may be old", short(*commit)))
            }
            (None, None) => match state.followed {
                Some(count) => (Health::Good, format!("{count} refs are followed")),
                None => (Health::Neutral, "the first sync is under way".to_owned()),
            },
            (None, Some(_)) if state.followed.is_some() => {
                (Health::Warning, "what is followed may be old".to_owned())
            }
            (None, Some(_)) => (Health::Bad, "nothing is published".to_owned()),
        }
    }

    /// For machines: the newest publication.
    pub(crate) fn details(&self) -> serde_json::Value {
        self.lock().news.as_ref().map_or(serde_json::Value::Null, |news| news.to_json())
    }

    /// For machines that look at several sources.
    pub(crate) fn summary(&self) -> serde_json::Value {
        let state = self.lock();
        serde_json::json!({
            "repository": state.repo,
            "ref": state.reference,
            "link": state.link.display().to_string(),
            "published": state.published.map(|(commit, _)| commit.to_string()),
            "followed": state.followed,
            "failures": state.failures,
            "error": state.error,
            "not_followed": state.orders.as_ref().and_then(Orders::reason),
            "newest": state.news.as_ref().map(|news| news.to_json()),
        })
    }

    /// One line of a table of several sources: repository, ref, what is published, since when, subject, error.
    pub(crate) fn row(&self) -> Vec<Cell> {
        let (health, headline) = self.headline();
        let state = self.lock();
        let subject = state.news.as_ref().and_then(|news| Some(news.commit.as_ref()?.subject.clone()));
        let text = |text: Option<String>| Cell::from(text.unwrap_or_default());
        vec![
            state.repo.clone().into(),
            state.reference.clone().into(),
            Cell::new(health, headline),
            text(state.published.as_ref().map(|(_, since)| ago(*since))),
            text(subject),
            Cell::new(Health::Bad, state.error.clone().unwrap_or_default()),
        ]
    }

    /// What there is to know, as facts and charts.
    pub(crate) fn sections(&self) -> [Section; 3] {
        let state = self.lock();
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
        let news = state.news.clone();
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
        [
            Section::facts("Source", facts),
            Section::charts("Attempts", charts),
            Section::table("Last attempts", &["When", "Outcome", "Took", "What"], rows.collect()),
        ]
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(crate) fn write(&self, message: &str, error: &str, args: &serde_json::Value) {
        let Some(path) = &self.0 else { return };
        let content = serde_json::json!({ "Msg": message, "Err": error, "Args": args });
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
