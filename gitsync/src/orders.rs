//! What is to be published instead of what the ref means: a pinned commit, the one before after a
//! failed probe or a roll-back. Kept over restarts in one small file beside the object store.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::protocol::ObjectId;
use crate::repo::Layout;

/// Publications remembered, at least.
const REMEMBERED: usize = 20;
/// A shorter beginning of a hash is too easily mistaken.
const SHORTEST_HASH: usize = 4;

/// The decisions. Clones share.
#[derive(Debug, Clone)]
pub(crate) struct Orders(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    path: PathBuf,
    saved: Saved,
    /// A roll-back that no attempt has carried out yet: the remote needn't be asked for it.
    pending: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Saved {
    pinned: Option<Hash>,
    held: Option<Held>,
    trial: Option<Trial>,
    /// The object that the ref meant when something was published last.
    followed: Option<Hash>,
    /// Commits in the order of their publication, those that were taken back left out.
    history: Vec<Hash>,
}

/// What the ref means is refused until it means something else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Held {
    refused: Hash,
    serve: Hash,
    /// Why, in words.
    pub(crate) reason: String,
    /// Whether something failed, and not somebody decided.
    pub(crate) failed: bool,
}

/// A publication whose probe hasn't ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Trial {
    commit: Hash,
    before: Option<Hash>,
}

/// An [`ObjectId`] as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Hash(ObjectId);

impl TryFrom<String> for Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|()| "no hash")
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.0.to_string()
    }
}

impl Orders {
    /// Those of an earlier run. A damaged file means none.
    pub(crate) fn load(layout: &Layout) -> Self {
        let path = layout.git_dir().join("gitsync-orders.json");
        let saved = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "pins and roll-backs can't be read; there are none now");
                Saved::default()
            }),
            Err(_) => Saved::default(),
        };
        Self(Arc::new(Mutex::new(State { path, saved, pending: false })))
    }

    /// The commit that is to stay, whatever the ref means.
    pub(crate) fn pinned(&self) -> Option<ObjectId> {
        self.lock().saved.pinned.map(|hash| hash.0)
    }

    /// What the ref meant last, if that is enough to know for a roll-back that was just ordered.
    pub(crate) fn take_pending(&self) -> Option<ObjectId> {
        let mut state = self.lock();
        let pending = std::mem::take(&mut state.pending);
        state.saved.held.as_ref().filter(|_| pending).map(|held| held.refused.0)
    }

    /// Instead of `wanted`: the commit to serve, and why.
    pub(crate) fn decide(&self, wanted: ObjectId) -> (ObjectId, Option<Held>) {
        let mut state = self.lock();
        match &state.saved.held {
            Some(held) if held.refused.0 == wanted => (held.serve.0, Some(held.clone())),
            Some(_) => {
                state.change(|saved| saved.held = None);
                (wanted, None)
            }
            None => (wanted, None),
        }
    }

    /// Why the ref isn't followed, in words.
    pub(crate) fn reason(&self) -> Option<String> {
        let state = self.lock();
        let pinned = state.saved.pinned.map(|hash| format!("pinned to {}; POST /unpin ends that", hash.0));
        pinned.or_else(|| {
            let held = state.saved.held.as_ref()?;
            Some(format!("{} is not published until the ref moves: {}", held.refused.0, held.reason))
        })
    }

    /// A publication begins whose worth a probe will tell. Gives what was published before, which a
    /// killed process noted as well.
    pub(crate) fn begin_trial(&self, commit: ObjectId, before: Option<ObjectId>) -> Option<ObjectId> {
        let mut state = self.lock();
        match &state.saved.trial {
            Some(trial) if trial.commit.0 == commit => trial.before.map(|hash| hash.0),
            _ => {
                let trial = Trial { commit: Hash(commit), before: before.map(Hash) };
                state.change(|saved| saved.trial = Some(trial));
                before
            }
        }
    }

    /// Whether `commit` is published but its probe hasn't ended.
    pub(crate) fn is_on_trial(&self, commit: ObjectId) -> bool {
        self.lock().saved.trial.as_ref().is_some_and(|trial| trial.commit.0 == commit)
    }

    /// The probe said yes.
    pub(crate) fn end_trial(&self) {
        let mut state = self.lock();
        if state.saved.trial.is_some() {
            state.change(|saved| saved.trial = None);
        }
    }

    /// The probe said no: `wanted`, what the ref means, isn't tried again before it means another thing.
    pub(crate) fn refuse(&self, wanted: ObjectId, serve: ObjectId, reason: String) {
        self.lock().change(|saved| {
            saved.trial = None;
            saved.held = Some(Held { refused: Hash(wanted), serve: Hash(serve), reason, failed: true });
        });
    }

    /// `commit` is published, because the ref meant `wanted`. `keep`: how many are kept.
    pub(crate) fn published(&self, wanted: ObjectId, commit: ObjectId, keep: usize) {
        let mut state = self.lock();
        let mut saved = state.saved.clone();
        if saved.held.is_none() {
            saved.followed = Some(Hash(wanted));
        }
        if saved.held.is_none() && saved.history.last() != Some(&Hash(commit)) {
            saved.history.retain(|hash| hash.0 != commit);
            saved.history.push(Hash(commit));
            let excess = saved.history.len().saturating_sub(REMEMBERED.max(keep + 1));
            saved.history.drain(..excess);
        }
        if saved != state.saved {
            state.change(|now| *now = saved);
        }
    }

    /// The newest `keep` commits that were published before `current`.
    pub(crate) fn kept(&self, keep: usize, current: ObjectId) -> Vec<ObjectId> {
        let state = self.lock();
        let earlier = state.saved.history.iter().rev().map(|hash| hash.0).filter(|hash| *hash != current);
        earlier.take(keep).collect()
    }

    /// Whether `commit` is one of the earlier publications that are remembered.
    pub(crate) fn was_published(&self, commit: ObjectId) -> bool {
        self.lock().saved.history.contains(&Hash(commit))
    }

    /// Stays at a commit: one given by its hash or the beginning of a known one, or the one that is
    /// published. Gives it, and what was pinned before.
    pub(crate) fn pin(&self, which: Option<&str>) -> Result<(ObjectId, Option<ObjectId>), String> {
        let mut state = self.lock();
        let commit = match which {
            Some(text) => state.known(text)?,
            None => state.serving().ok_or("nothing is published that could be pinned")?,
        };
        let before = state.saved.pinned.map(|hash| hash.0);
        state.try_change(|saved| saved.pinned = Some(Hash(commit)))?;
        Ok((commit, before))
    }

    /// Follows the ref again, or goes back to an earlier pin.
    pub(crate) fn unpin(&self, to: Option<ObjectId>) -> Result<(), String> {
        self.lock().try_change(|saved| saved.pinned = to.map(Hash))
    }

    /// Goes back to the publication before, or to a given one, until the ref moves.
    pub(crate) fn roll_back(&self, to: Option<&str>) -> Result<ObjectId, String> {
        let mut state = self.lock();
        if let Some(pinned) = state.saved.pinned {
            return Err(format!("pinned to {}; POST /unpin first", pinned.0));
        }
        let serving = state.serving().ok_or("nothing is published yet")?;
        let followed = state.saved.followed.ok_or("nothing is published yet")?;
        let at = state.saved.history.iter().position(|hash| hash.0 == serving);
        let target = match to {
            Some(text) => state.known(text)?,
            None => at
                .and_then(|at| at.checked_sub(1))
                .and_then(|at| state.saved.history.get(at))
                .map(|hash| hash.0)
                .ok_or("no earlier publication is known")?,
        };
        if target == serving {
            return Err(format!("{target} is what is published"));
        }
        let refused = state.saved.held.as_ref().map_or(followed, |held| held.refused);
        state.try_change(|saved| {
            let reason = format!("rolled back to {target}");
            saved.held = Some(Held { refused, serve: Hash(target), reason, failed: false });
            // What is taken back is nothing to go back to.
            if let Some(end) = saved.history.iter().position(|hash| hash.0 == target) {
                saved.history.truncate(end + 1);
            }
        })?;
        state.pending = true;
        Ok(target)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is or is about to be published.
    fn serving(&self) -> Option<ObjectId> {
        let held = self.saved.held.as_ref().map(|held| held.serve.0);
        held.or_else(|| self.saved.history.last().map(|hash| hash.0))
    }

    fn known(&self, text: &str) -> Result<ObjectId, String> {
        if let Ok(hash) = text.parse() {
            return Ok(hash);
        }
        let text = text.to_ascii_lowercase();
        let mut fits = self.saved.history.iter().filter(|hash| hash.0.to_string().starts_with(&text));
        match (fits.next(), fits.next()) {
            (Some(hash), None) if text.len() >= SHORTEST_HASH => Ok(hash.0),
            _ => {
                Err("give the commit's whole hash, or the clear beginning of one that was published"
                    .to_owned())
            }
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Saved)) {
        if let Err(error) = self.try_change(change) {
            tracing::error!(error, "a restart will forget this");
        }
    }

    /// In memory whatever happens; on disk if that's possible.
    fn try_change(&mut self, change: impl FnOnce(&mut Saved)) -> Result<(), String> {
        change(&mut self.saved);
        let write = || -> io::Result<()> {
            let text = serde_json::to_vec_pretty(&self.saved)?;
            common::fs::write_atomically(&self.path, &text, 0o666)
        };
        write().map_err(|error| format!("can't write {}: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: u8) -> ObjectId {
        ObjectId::from_bytes([digit; 20])
    }

    fn orders() -> (tempfile::TempDir, Layout, Orders) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        std::fs::create_dir(layout.git_dir()).unwrap();
        let orders = Orders::load(&layout);
        (root, layout, orders)
    }

    #[test]
    fn rolling_back_goes_further_back_and_ends_when_the_ref_moves() {
        let (_root, layout, orders) = orders();
        assert!(orders.roll_back(None).is_err());
        for n in 1..=4 {
            orders.published(id(n), id(n), 0);
        }
        assert_eq!(orders.roll_back(None), Ok(id(3)));
        assert_eq!(orders.take_pending(), Some(id(4)));
        assert_eq!(orders.decide(id(4)).0, id(3));
        orders.published(id(4), id(3), 0);
        assert_eq!(orders.roll_back(None), Ok(id(2)));
        let again = Orders::load(&layout);
        assert_eq!(again.decide(id(4)).0, id(2), "a restart knows it");
        assert_eq!(again.decide(id(5)), (id(5), None));
        again.published(id(5), id(5), 0);
        assert_eq!(again.roll_back(None), Ok(id(2)), "3 and 4 were taken back");
        assert_eq!(again.roll_back(Some("0101")), Ok(id(1)));
        assert!(again.roll_back(Some("01")).is_err());
        assert!(again.roll_back(None).is_err());
    }

    #[test]
    fn pins_outlive_the_process_and_forbid_rolling_back() {
        let (_root, layout, orders) = orders();
        assert!(orders.pin(None).is_err());
        orders.published(id(1), id(1), 0);
        orders.published(id(2), id(2), 0);
        assert_eq!(orders.pin(None), Ok((id(2), None)));
        assert_eq!(orders.pin(Some(&id(9).to_string())), Ok((id(9), Some(id(2)))));
        let orders = Orders::load(&layout);
        assert_eq!(orders.pinned(), Some(id(9)));
        assert!(orders.roll_back(None).is_err());
        orders.unpin(None).unwrap();
        assert_eq!(Orders::load(&layout).pinned(), None);
    }

    #[test]
    fn a_trial_is_remembered_with_what_was_before() {
        let (_root, layout, orders) = orders();
        assert_eq!(orders.begin_trial(id(2), Some(id(1))), Some(id(1)));
        let orders = Orders::load(&layout);
        assert!(orders.is_on_trial(id(2)));
        assert_eq!(orders.begin_trial(id(2), Some(id(2))), Some(id(1)));
        orders.refuse(id(7), id(1), "bad".to_owned());
        assert!(!orders.is_on_trial(id(2)));
        assert!(orders.decide(id(7)).1.unwrap().failed);
        std::fs::write(layout.git_dir().join("gitsync-orders.json"), "{").unwrap();
        assert_eq!(Orders::load(&layout).decide(id(7)), (id(7), None));
    }

    #[test]
    fn so_many_are_kept() {
        let (_root, _layout, orders) = orders();
        (1..=9).for_each(|n| orders.published(id(n), id(n), 3));
        assert_eq!(orders.kept(3, id(9)), [id(8), id(7), id(6)]);
        assert!(orders.kept(0, id(9)).is_empty());
    }
}
