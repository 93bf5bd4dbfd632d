//! What one update does about LFS: look what the commit needs, and get what isn't here.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderName};
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::endpoint::{self, Endpoint, LfsConfig};
use super::http::{Caller, secret};
use super::transfer::{Transfer, Wanted};
use super::{Extent, LfsError, batch};
use crate::config::Config;
use crate::error::SyncError;
use crate::fetcher::blocking;
use crate::keyring::Keys;
use crate::keyring::unix_now;
use crate::metrics::Metrics;
use crate::protocol::{Follow, ObjectId};
use crate::repo::lfs::Objects;
use crate::repo::{CheckoutOptions, RepoError, Store};
use crate::ssh::Target;
use crate::transport::RemoteUrl;

/// Transfers at a time, unless `lfs.concurrentTransfers` says otherwise; as git-lfs.
const AT_ONCE: usize = 8;
/// More are never made.
const MAX_AT_ONCE: usize = 64;
/// Time for `git-lfs-authenticate`.
const SSH_LIMIT: Duration = Duration::from_secs(60);
/// Bytes of what it prints that are taken.
const MAX_OUTPUT: u64 = 64 << 10;

/// What an update needs to know.
pub(crate) struct Update<'a> {
    pub(crate) config: &'a Arc<Config>,
    pub(crate) keys: &'a Keys,
    pub(crate) metrics: &'a Metrics,
    pub(crate) cancel: &'a CancellationToken,
}

impl Update<'_> {
    /// Makes sure that all LFS objects of `commit` are on disk; gives the store back.
    ///
    /// # Errors
    /// When one can't be had. Those that were complete before are kept. Cancel safe in the same way.
    pub(crate) async fn run(
        &self,
        store: Store,
        remote: &str,
        commit: ObjectId,
        options: CheckoutOptions,
    ) -> Result<(Store, Option<Extent>), SyncError> {
        if !self.config.lfs {
            return Ok((store, None));
        }
        let cancel = self.cancel.clone();
        let (store, plan) = blocking(move || {
            let plan = store.lfs_plan(commit, &options, &cancel)?;
            Ok((store, plan))
        })
        .await?;
        let downloaded = plan.missing.len();
        let extent = Extent { objects: plan.objects, bytes: plan.bytes, downloaded };
        if downloaded > 0 {
            let file =
                plan.settings.as_deref().map(|bytes| LfsConfig::parse(&String::from_utf8_lossy(bytes)));
            let objects = Objects::new(store.layout());
            let file = file.unwrap_or_default();
            let getting = self.get(objects, remote, &file, plan.missing);
            tokio::select! {
                got = Box::pin(getting) => got?,
                () = self.cancel.cancelled() => return Err(RepoError::Cancelled.into()),
            }
            tracing::debug!(objects = downloaded, "LFS objects are here");
        }
        Ok((store, (extent.objects > 0).then_some(extent)))
    }

    async fn get(
        &self,
        objects: Objects,
        remote: &str,
        file: &LfsConfig,
        missing: Vec<Wanted>,
    ) -> Result<(), SyncError> {
        let found = endpoint::endpoint(&self.config.git, file, remote).map_err(LfsError::Setup)?;
        let site = match RemoteUrl::parse(&self.config.git.rewrite(remote)) {
            Ok(RemoteUrl::Http(url)) => Some(url),
            _ => None,
        };
        let caller = Caller::new(self.config, self.keys, site);
        let (server, login) = match found {
            Endpoint::Local(path) => return copy(objects, path, missing).await,
            Endpoint::Ssh(target) => self.over_ssh(&target, &caller).await?,
            Endpoint::Http(url, user) => {
                let mut login = caller.own_headers(&url);
                if let Some((user, password)) = user {
                    login.insert(header::AUTHORIZATION, crate::auth::basic(&user, &password));
                }
                (url, login)
            }
        };
        let at_once = self.config.git.value("lfs.concurrenttransfers").and_then(|text| text.parse().ok());
        let transfer = Transfer {
            caller,
            server,
            login,
            reference: full_name(&self.config.follow()),
            objects,
            metrics: self.metrics.clone(),
            at_once: at_once.unwrap_or(AT_ONCE).clamp(1, MAX_AT_ONCE),
        };
        Ok(transfer.run(&missing).await?)
    }

    /// Asks the host of an SSH remote where its LFS server is and how to log in there.
    async fn over_ssh(&self, target: &Target, caller: &Caller<'_>) -> Result<(Url, HeaderMap), LfsError> {
        let fail = |reason: String| LfsError::Setup(format!("git-lfs-authenticate on {target}: {reason}"));
        let asking = async {
            let command = target.command("git-lfs-authenticate", " download");
            let channel = crate::ssh::run(target, &self.config.ssh, &command).await;
            let channel = channel.map_err(|error| fail(common::error::chain(&error)))?;
            let mut output = Vec::new();
            let read = channel.take(MAX_OUTPUT).read_to_end(&mut output).await;
            read.map_err(|error| fail(common::error::chain(&error)))?;
            Ok(output)
        };
        let output = tokio::time::timeout(SSH_LIMIT, Box::pin(asking)).await;
        let output =
            output.unwrap_or_else(|_| Err(fail(format!("no answer within {} s", SSH_LIMIT.as_secs()))))?;
        let (link, has_href) = batch::authenticated(&output, unix_now()).map_err(|e| fail(e.to_owned()))?;
        let server = match has_href {
            true => Url::parse(&link.href).map_err(|_| fail("printed no address".to_owned()))?,
            false => endpoint::behind_ssh(target).map_err(fail)?,
        };
        let mut login = caller.own_headers(&server);
        for (name, value) in &link.headers {
            if let (Ok(name), Some(value)) = (name.parse::<HeaderName>(), secret(value)) {
                login.insert(name, value);
            }
        }
        Ok((server, login))
    }
}

/// From a repository on this machine.
async fn copy(objects: Objects, path: std::path::PathBuf, missing: Vec<Wanted>) -> Result<(), SyncError> {
    let copied = blocking(move || {
        let source = Objects::of_repository(&path);
        for (pointer, file) in missing {
            let fail = |reason: String| LfsError::Object {
                path: String::from_utf8_lossy(&file).into_owned(),
                oid: pointer.oid.to_string(),
                url: path.display().to_string(),
                reason,
            };
            if !source.has(&pointer) {
                return Ok(Err(fail("it has no such object".to_owned())));
            }
            objects.take_over(&source, &pointer)?;
        }
        Ok(Ok(()))
    });
    Ok(copied.await??)
}

/// The ref as servers want it; empty where it isn't known.
fn full_name(follow: &Follow) -> String {
    match follow {
        Follow::Newest(_) => String::new(),
        Follow::Name(name) => match &name[..] {
            "HEAD" => String::new(),
            name if name.starts_with("refs/") => name.to_owned(),
            name if name.parse::<ObjectId>().is_ok() => String::new(),
            name => format!("refs/heads/{name}"),
        },
    }
}
