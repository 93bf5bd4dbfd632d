//! What all sync loops of the process let others see, as one: the status page, readiness, publications.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::status::{Cell, Choices, Health, Section, Status};
use tokio::sync::watch;

use crate::view::{Feed, Newest, View};

/// When the process is ready as far as a source goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// When it has something to read.
    Published,
    /// When it was tried at least once.
    Tried,
    /// It doesn't matter.
    No,
}

/// Clones share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    views: Mutex<BTreeMap<String, (View, Counts)>>,
    /// Once ready, always: what comes later doesn't take the others from their users.
    ready: AtomicBool,
    /// Whether the page itself can be used to give orders.
    steers: AtomicBool,
    /// What is wrong with the list of sources.
    problem: Mutex<Option<String>>,
    feed: Arc<Feed>,
}

impl Board {
    /// Shows the only source.
    pub(crate) fn alone(view: &View, feed: &Arc<Feed>) -> Self {
        let board = Self(Arc::new(Inner { feed: Arc::clone(feed), ..Inner::default() }));
        board.show("", view, Counts::Published);
        board
    }

    /// Shows one more, or it in another way.
    pub(crate) fn show(&self, name: &str, view: &View, counts: Counts) {
        self.views().insert(name.to_owned(), (view.clone(), counts));
    }

    /// No longer shows it.
    pub(crate) fn hide(&self, name: &str) {
        self.views().remove(name);
        self.0.feed.send_if_modified(|all| {
            all.retain(|(_, news)| news.source.as_deref() != Some(name));
            false
        });
    }

    /// The page gets buttons.
    pub(crate) fn allow_steering(&self) {
        self.0.steers.store(true, Ordering::Relaxed);
    }

    /// Says what is wrong with the list of sources, if anything.
    pub(crate) fn complain(&self, problem: Option<String>) {
        *self.0.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Where publications are told.
    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.0.feed
    }

    /// Publications as they come.
    pub(crate) fn listen(&self) -> watch::Receiver<Newest> {
        self.0.feed.subscribe()
    }

    /// Whether consumers have something to read: of all sources that count.
    pub(crate) fn is_serving(&self) -> bool {
        self.missing().is_empty()
    }

    /// The sources for which the process isn't ready; none once it was.
    pub(crate) fn missing(&self) -> Vec<String> {
        if self.0.ready.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let views = self.views();
        let lacks = |(view, counts): &(View, Counts)| match counts {
            Counts::Published => !view.is_serving(),
            Counts::Tried => !view.is_serving() && !view.was_tried(),
            Counts::No => false,
        };
        let missing: Vec<String> =
            views.iter().filter(|(_, entry)| lacks(entry)).map(|(name, _)| name.clone()).collect();
        if missing.is_empty() && !views.is_empty() {
            self.0.ready.store(true, Ordering::Relaxed);
        }
        missing
    }

    /// Why something published may be old, if so.
    pub(crate) fn stale(&self) -> Option<String> {
        let reasons: Vec<String> = self
            .views()
            .iter()
            .filter_map(|(name, (view, _))| {
                let reason = view.stale()?;
                Some(if name.is_empty() { reason } else { format!("{name}: {reason}") })
            })
            .chain(self.problem())
            .collect();
        (!reasons.is_empty()).then(|| reasons.join("\n"))
    }

    /// The page.
    pub(crate) fn status(&self) -> Status {
        let views = self.views();
        let steers = self.0.steers.load(Ordering::Relaxed);
        if let Some((view, _)) = views.get("") {
            let (health, headline) = view.headline();
            let mut page = Status::new(health, headline).details(view.details());
            if steers {
                page = with_buttons(page);
            }
            return view.sections().into_iter().fold(page, Status::section);
        }
        let good = views.values().filter(|(view, _)| view.headline().0 == Health::Good).count();
        let (all, problem) = (views.len(), self.problem());
        let health = match (good == all, &problem) {
            (true, None) => Health::Good,
            (false, _) if good == 0 => Health::Bad,
            _ => Health::Warning,
        };
        let mut page = Status::new(health, format!("{good} of {all} sources are as they should be"));
        if steers {
            let values = views.keys().cloned().collect();
            page =
                with_buttons(page).choices(Choices { parameter: "source", nothing: "all sources", values });
        }
        if let Some(problem) = problem {
            page = page
                .section(Section::facts("Sources", [("Not taken over", Cell::new(Health::Bad, problem))]));
        }
        let columns = ["Source", "Repository", "Ref", "State", "Published", "Subject", "Error"];
        let rows = views
            .iter()
            .map(|(name, (view, _))| std::iter::once(Cell::from(name.clone())).chain(view.row()).collect());
        page = page.section(Section::table("Sources", &columns, rows.collect()));
        for (name, (view, _)) in views.iter() {
            let [mut facts, mut charts, _] = view.sections();
            facts.title.clone_from(name);
            charts.title = format!("{name}: attempts");
            page = page.section(facts).section(charts);
        }
        let details = views.iter().map(|(name, (view, _))| (name.clone(), view.summary()));
        page.details(serde_json::json!({ "sources": details.collect::<serde_json::Map<_, _>>() }))
    }

    fn problem(&self) -> Option<String> {
        self.0.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn views(&self) -> MutexGuard<'_, BTreeMap<String, (View, Counts)>> {
        self.0.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn with_buttons(page: Status) -> Status {
    page.call("Sync now", "/sync?wait")
        .call("Roll back", "/rollback")
        .call("Pin", "/pin")
        .call("Unpin", "/unpin")
}
