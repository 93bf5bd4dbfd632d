//! What a publication changed, for hooks, requests, the status and whoever waits for it.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::protocol::ObjectId;
use crate::repo::{Changes, CommitInfo};

/// Longer subjects and names are cut.
const MAX_TEXT: usize = 1_000;

/// One publication.
#[derive(Debug, Clone)]
pub(crate) struct News {
    /// The commit that is published now.
    pub(crate) new: ObjectId,
    /// The one before, if there was another one.
    pub(crate) old: Option<ObjectId>,
    /// What differs; `None` when that isn't known.
    pub(crate) changes: Option<Changes>,
    /// Who made the new commit.
    pub(crate) commit: Option<CommitInfo>,
    /// Address without secrets.
    pub(crate) repository: String,
    /// As configured, or the tag of the newest version.
    pub(crate) reference: String,
    /// Which of several sources it is.
    pub(crate) source: Option<String>,
    /// When the link moved.
    pub(crate) at: SystemTime,
}

impl News {
    /// What `self` and then `later` did together, for those who missed `self`.
    pub(crate) fn and_then(&self, later: &Self) -> Self {
        let changes = self.changes.as_ref().zip(later.changes.as_ref());
        Self { old: self.old, changes: changes.map(|(first, then)| first.and_then(then)), ..later.clone() }
    }

    /// For machines. Paths that are no UTF-8 are given as near as that can come.
    pub(crate) fn to_json(&self) -> Value {
        let mut value = json!({
            "old": self.old.map(|hash| hash.to_string()),
            "new": self.new.to_string(),
            "ref": self.reference,
            "repository": { "clone_url": self.repository },
            "published": seconds(self.at),
        });
        if let Some(source) = &self.source {
            value["source"] = source.clone().into();
        }
        if let Some(commit) = &self.commit {
            value["commit"] = json!({
                "author": { "name": cut(&commit.author), "email": cut(&commit.email) },
                "time": commit.time,
                "subject": cut(&commit.subject),
            });
        }
        if let Some(changes) = &self.changes {
            let listed = changes
                .listed
                .iter()
                .map(|one| json!({ "path": String::from_utf8_lossy(&one.path), "change": one.kind.name() }));
            value["changed_files"] = changes.total.into();
            value["changes"] = listed.collect();
        }
        value
    }

    /// For programs. `list` is where [`News::listing`] was written.
    pub(crate) fn environment(&self, list: Option<&Path>) -> Vec<(&'static str, String)> {
        let clean = |text: &str| cut(text).replace('\0', "");
        let mut variables =
            vec![("GITSYNC_OLD_HASH", self.old.map(|hash| hash.to_string()).unwrap_or_default())];
        variables.extend(self.source.clone().map(|source| ("GITSYNC_SOURCE", source)));
        if let Some(commit) = &self.commit {
            variables
                .push(("GITSYNC_COMMIT_AUTHOR", clean(&format!("{} <{}>", commit.author, commit.email))));
            variables.push(("GITSYNC_COMMIT_TIME", commit.time.to_string()));
            variables.push(("GITSYNC_COMMIT_SUBJECT", clean(&commit.subject)));
        }
        if let (Some(changes), Some(list)) = (&self.changes, list) {
            variables.push(("GITSYNC_CHANGED_FILES", changes.total.to_string()));
            variables.push(("GITSYNC_CHANGES_COMPLETE", (changes.total == changes.listed.len()).to_string()));
            variables.push(("GITSYNC_CHANGES_FILE", list.display().to_string()));
        }
        variables
    }

    /// As `git diff --name-status -z` writes it: a letter and a path for each, both ended by NUL.
    pub(crate) fn listing(&self) -> Option<Vec<u8>> {
        let changes = self.changes.as_ref()?;
        let mut text = Vec::new();
        for change in &changes.listed {
            text.extend([change.kind.letter(), 0]);
            text.extend_from_slice(&change.path);
            text.push(0);
        }
        Some(text)
    }
}

fn seconds(time: SystemTime) -> f64 {
    let since: Duration = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs_f64() * 1e3).round() / 1e3
}

fn cut(text: &str) -> &str {
    text.char_indices().nth(MAX_TEXT).map_or(text, |(end, _)| &text[..end])
}
