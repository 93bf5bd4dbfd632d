//! Who can be asked from outside to sync: the only loop, or one of several sources.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Control;
use super::payload::{Event, Relevance, path_of};
use crate::config::Config;
use crate::hub::Interest;
use crate::orders::Orders;

/// One of them.
pub(crate) struct Target {
    /// The repository as webhooks name it.
    repository: String,
    interest: Interest,
    /// As shown.
    pub(super) reference: String,
    /// How long a call waits for an outcome unless it says otherwise.
    pub(super) wait: Duration,
    pub(super) control: Control,
    /// `None`: it publishes nothing itself.
    pub(super) orders: Option<Orders>,
    /// Whether push webhooks reach it; if not, they reach another one that wakes it.
    by_webhook: bool,
}

impl Target {
    pub(crate) fn new(config: &Config, interest: Interest, control: Control, orders: Option<Orders>) -> Self {
        Self {
            repository: config.triggers.repository.clone().unwrap_or_else(|| config.repo.clone()),
            interest,
            reference: config.reference.clone(),
            wait: config.sync_timeout + config.sync_timeout,
            control,
            orders,
            by_webhook: true,
        }
    }

    /// Leaves push webhooks to another one.
    #[must_use]
    pub(crate) fn without_webhooks(self) -> Self {
        Self { by_webhook: false, ..self }
    }
}

/// All of them. Clones share.
#[derive(Clone, Default)]
pub(crate) struct Targets(Arc<Mutex<BTreeMap<String, Arc<Target>>>>);

/// Those that a call is for, by name. The only one of a process has none.
pub(super) type Chosen = Vec<(String, Arc<Target>)>;

impl Targets {
    pub(crate) fn add(&self, name: &str, target: Target) {
        self.lock().insert(name.to_owned(), Arc::new(target));
    }

    pub(crate) fn remove(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Those that a webhook is about; how near it came when there are none.
    pub(super) fn touched(&self, event: &Event) -> (Relevance, Chosen) {
        let all = self.lock();
        let judged = all.iter().filter(|(_, target)| target.by_webhook).map(|(name, target)| {
            (event.relevance(&target.repository, &target.interest), (name.clone(), Arc::clone(target)))
        });
        let judged: Vec<_> = judged.collect();
        let best = judged.iter().map(|(relevance, _)| *relevance).min().unwrap_or(Relevance::OtherRepository);
        let touched = judged.into_iter().filter(|(relevance, _)| *relevance == Relevance::Ours);
        (best, touched.map(|(_, one)| one).collect())
    }

    /// Those that the words of a query choose: `source`, or `repository` and `ref`; without any, all.
    pub(super) fn chosen(&self, query: Option<&str>) -> Result<Chosen, String> {
        let words: Vec<_> = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).collect();
        let word = |wanted: &str| words.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
        let (source, repository, reference) = (word("source"), word("repository"), word("ref"));
        let fits = |name: &str, target: &Target| {
            source.is_none_or(|source| source == name)
                && repository.is_none_or(|wanted| path_of(wanted) == path_of(&target.repository))
                && reference.is_none_or(|wanted| {
                    wanted == target.reference
                        || [wanted.to_owned(), format!("refs/heads/{wanted}"), format!("refs/tags/{wanted}")]
                            .iter()
                            .any(|full| target.interest.is_about(full, Some("")))
                })
        };
        let all = self.lock();
        let chosen: Chosen = all
            .iter()
            .filter(|(name, target)| fits(name, target))
            .map(|(name, target)| (name.clone(), Arc::clone(target)))
            .collect();
        if chosen.is_empty() {
            let known: Vec<&str> = all.keys().map(String::as_str).filter(|name| !name.is_empty()).collect();
            return Err(format!("nothing that is synced here is meant; there is {}", known.join(", ")));
        }
        Ok(chosen)
    }

    /// Starts an attempt of each.
    pub(crate) fn fire_all(&self) {
        let now = std::time::Instant::now();
        self.lock().values().for_each(|target| target.control.fire_since(now));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Target>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
