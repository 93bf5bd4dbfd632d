//! Submodules: which remote each comes from, and fetching them. The driver of
//! `repo::submodule`.

use std::path::PathBuf;
use std::pin::Pin;

use tokio_util::sync::CancellationToken;

use crate::config::Submodules;
use crate::error::SyncError;
use crate::fetcher::{Fetcher, Goal, blocking};
use crate::keyring::Keys;
use crate::protocol::ObjectId;
use crate::repo::{CheckoutOptions, Layout, RepoError, Store, Wanted, submodule_place};
use crate::transport::RemoteUrl;

/// Submodules inside submodules deeper than this are a loop.
const MAX_NESTING: usize = 16;

/// Makes all submodules of a checkout.
pub(crate) struct Update<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) fetcher: &'a Fetcher,
    pub(crate) keys: &'a Keys,
    pub(crate) lfs: &'a crate::lfs::Update<'a>,
    pub(crate) mode: Submodules,
    /// Whether a repository from elsewhere may ask for paths on this machine.
    pub(crate) allow_local: bool,
    pub(crate) cancel: &'a CancellationToken,
}

/// A checkout that asks for submodules.
struct Parent {
    url: String,
    top: PathBuf,
    names: Vec<String>,
}

impl Update<'_> {
    /// Fetches and checks out whatever `commit` of `url` asks for; gives the store back.
    pub(crate) async fn run(&self, store: Store, url: &str, commit: ObjectId) -> Result<Store, SyncError> {
        if self.mode == Submodules::Off {
            return Ok(store);
        }
        let (store, wanted) = blocking(move || {
            let wanted = if store.wants_submodules(commit)? { Some(store.submodules(commit)?) } else { None };
            Ok((store, wanted))
        })
        .await?;
        let Some(wanted) = wanted else { return Ok(store) };
        let parent = Parent { url: url.to_owned(), top: self.layout.worktree(commit), names: Vec::new() };
        self.all(parent, commit, wanted).await?;
        blocking(move || {
            store.submodules_done(commit)?;
            Ok(store)
        })
        .await
    }

    fn all<'b>(
        &'b self,
        parent: Parent,
        top_commit: ObjectId,
        wanted: Vec<Wanted>,
    ) -> Pin<Box<dyn Future<Output = Result<(), SyncError>> + Send + 'b>> {
        Box::pin(async move {
            for one in wanted {
                self.one(&parent, top_commit, one).await?;
            }
            Ok(())
        })
    }

    async fn one(&self, parent: &Parent, top_commit: ObjectId, wanted: Wanted) -> Result<(), SyncError> {
        let names: Vec<String> = parent.names.iter().cloned().chain([wanted.name.clone()]).collect();
        if names.len() > MAX_NESTING {
            return Err(
                RepoError::TooMuch { what: "submodules inside submodules", limit: MAX_NESTING }.into()
            );
        }
        let url = absolute(&parent.url, &wanted.url);
        self.refuse_local(parent, &url)?;
        tracing::debug!(name = wanted.name, url = crate::redact::url(&url), commit = %wanted.commit, "submodule");
        let layout = self.layout.submodule_store(&names);
        let origin = url.clone();
        let open = blocking(move || {
            std::fs::create_dir_all(layout.root()).map_err(RepoError::io("creating", layout.root()))?;
            Store::open(layout, &origin, None).map(|(store, _)| store)
        });
        let mut source = self.fetcher.source(&url)?;
        let store = self
            .fetcher
            .fetch(
                &mut source,
                open.await?,
                Goal::one(wanted.commit),
                (self.keys, &url),
                self.lfs.metrics,
                self.cancel,
            )
            .await?;
        let commit = wanted.commit;
        let setting = self.lfs.config.lfs_setting();
        let store = blocking(move || {
            store.configure(&[setting])?;
            Ok(store)
        })
        .await?;
        let (store, _) = self.lfs.run(store, &url, commit, CheckoutOptions::default()).await?;
        let top = submodule_place(&parent.top, &wanted.path);
        let git_dir = self.layout.submodule_git_dir(top_commit, &names);
        let config = match parent.names.is_empty() {
            true => self.layout.git_dir().join("config"),
            false => self.layout.submodule_git_dir(top_commit, &parent.names).join("config"),
        };
        let (name, noted) = (wanted.name.clone(), url.clone());
        let (cancel, place, commit) = (self.cancel.clone(), top.clone(), wanted.commit);
        let inner = blocking(move || {
            store.set_head(commit)?;
            Store::note_submodule(&config, &name, &noted)?;
            store.check_out_submodule(commit, &place, &git_dir, &cancel)
        })
        .await?;
        if self.mode == Submodules::Recursive && !inner.is_empty() {
            self.all(Parent { url, top, names }, top_commit, inner).await?;
        }
        Ok(())
    }

    /// A repository from the network must not make this process read local paths.
    fn refuse_local(&self, parent: &Parent, url: &str) -> Result<(), SyncError> {
        let is_local = |url: &str| matches!(RemoteUrl::parse(url), Ok(RemoteUrl::Local(_)));
        if is_local(url) && !is_local(&parent.url) && !self.allow_local {
            return Err(RepoError::Hostile {
                path: url.to_owned(),
                reason: "a submodule that points to a local path",
            }
            .into());
        }
        Ok(())
    }
}

/// `./x` and `../x` mean a place relative to the parent's address.
fn absolute(parent: &str, url: &str) -> String {
    if !url.starts_with("./") && !url.starts_with("../") {
        return url.to_owned();
    }
    let mut base = parent.trim_end_matches('/').to_owned();
    let mut rest = url;
    loop {
        if let Some(tail) = rest.strip_prefix("./") {
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix("../") {
            rest = tail;
            match base.rfind('/') {
                Some(at) => base.truncate(at),
                // `host:path` goes up to `host:`.
                None => base.truncate(base.rfind(':').map_or(base.len(), |at| at + 1)),
            }
        } else {
            break;
        }
    }
    let separator = if base.ends_with(':') { "" } else { "/" };
    format!("{base}{separator}{}", rest.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn relative_addresses() {
        let to = |parent, url| absolute(parent, url);
        assert_eq!(to("https://h/a/b.git", "../c.git"), "https://h/a/c.git");
        assert_eq!(to("https://h/a/b.git/", "../../c"), "https://h/c");
        assert_eq!(to("https://h/a/b", "./c"), "https://h/a/b/c");
        assert_eq!(to("git@h:a/b.git", "../c.git"), "git@h:a/c.git");
        assert_eq!(to("git@h:b.git", "../c.git"), "git@h:c.git");
        assert_eq!(to("/srv/b", "../c"), "/srv/c");
        assert_eq!(to("https://h/a", "https://x/y"), "https://x/y");
    }
}
