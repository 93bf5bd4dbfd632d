//! Only what is signed gets published. [`object`] and [`signers`] are pure; keys are read anew for
//! each check, so a changed file counts at once.

mod object;
#[cfg(feature = "openpgp")]
mod openpgp;
mod signers;

use std::collections::{BinaryHeap, HashMap};
use std::path::PathBuf;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::protocol::ObjectId;
use crate::repo::{Kind, Objects, RepoError};
use object::Signed;
use signers::Signers;

/// More commits than this between two publications are not looked through.
const MAX_COMMITS: usize = 1_000_000;
/// A longer key file is a mistake.
const MAX_KEYS: u64 = 16 << 20;

/// Which signatures are asked for.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
///
/// config.verification.mode = gitsync::Verify::AllNew;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// None.
    #[default]
    Off,
    /// The one of the commit to publish, or of the annotated tag that names it.
    Head,
    /// That of every commit that came since the last publication, and of an annotated tag.
    AllNew,
}

/// Whose signatures count.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
/// use gitsync::{Verification, Verify};
///
/// config.verification = Verification {
///     mode: Verify::Head,
///     allowed_signers: Some("/etc/gitsync/allowed_signers".into()),
///     keyring: None,
/// };
/// ```
#[derive(Debug, Clone, Default)]
pub struct Verification {
    /// What is checked.
    pub mode: Verify,
    /// As `gpg.ssh.allowedSignersFile`; `ssh-keygen(1)`, ALLOWED SIGNERS.
    pub allowed_signers: Option<PathBuf>,
    /// OpenPGP public keys, armored or not.
    pub keyring: Option<PathBuf>,
}

/// Why something isn't published.
///
/// ```
/// use gitsync::SyncError;
///
/// fn refused(error: &SyncError) -> Option<String> {
///     match error {
///         SyncError::Unverified(unverified) => Some(unverified.to_string()),
///         _ => None,
///     }
/// }
/// assert_eq!(refused(&SyncError::UnknownRef { name: "v9".into() }), None);
/// ```
#[derive(Debug, Error)]
#[error("{what} {id}: {why}")]
pub struct Unverified {
    what: &'static str,
    id: ObjectId,
    why: Why,
}

#[derive(Debug, Error)]
enum Why {
    #[error("it is not signed")]
    Unsigned,
    #[error("signed with {0}, but no such key is allowed")]
    UnknownKey(String),
    #[error("the signature is bad: {0}")]
    Bad(String),
    #[error("{0}")]
    Unsupported(String),
}

impl Unverified {
    /// As in the metrics.
    pub(crate) fn outcome(&self) -> &'static str {
        match self.why {
            Why::Unsigned => "unsigned",
            Why::UnknownKey(_) => "unknown_key",
            Why::Bad(_) => "bad",
            Why::Unsupported(_) => "unsupported",
        }
    }
}

/// An outcome of a check: of the object store, or of the signature.
type Checked = Result<Result<(), Unverified>, RepoError>;

impl Verification {
    /// Checks what is about to be published: `wanted` is what the ref means, `old` what was
    /// published before.
    pub(crate) fn check(
        &self,
        objects: &Objects,
        wanted: ObjectId,
        old: Option<ObjectId>,
        cancel: &CancellationToken,
    ) -> Checked {
        if self.mode == Verify::Off {
            return Ok(Ok(()));
        }
        let keys = self.keys()?;
        let (kind, data) = objects.read(wanted)?;
        if kind == Kind::Tag {
            objects.read_checked(wanted, Kind::Tag)?;
            if let Err(why) = keys.check(object::tag(&data)) {
                return Ok(Err(Unverified { what: "tag", id: wanted, why }));
            }
        }
        let head = objects.peel(wanted)?;
        let ids = match (self.mode, kind) {
            (Verify::AllNew, _) if old.is_some_and(|old| old != head) => {
                new_commits(objects, head, old, cancel)?
            }
            // The tag vouches for its commit.
            (_, Kind::Tag) => Vec::new(),
            _ => vec![head],
        };
        for id in ids {
            if cancel.is_cancelled() {
                return Err(RepoError::Cancelled);
            }
            let data = objects.read_checked(id, Kind::Commit)?;
            if let Err(why) = keys.check(object::commit(&data)) {
                return Ok(Err(Unverified { what: "commit", id, why }));
            }
        }
        Ok(Ok(()))
    }

    fn keys(&self) -> Result<Keys, RepoError> {
        let read = |path: &PathBuf| -> Result<Vec<u8>, RepoError> {
            let fail = RepoError::io("reading", path);
            match std::fs::metadata(path) {
                Ok(meta) if meta.len() > MAX_KEYS => {
                    Err(RepoError::NotFound(format!("{} is too large for a file of keys", path.display())))
                }
                Ok(_) => std::fs::read(path).map_err(fail),
                Err(error) => Err(fail(error)),
            }
        };
        let signers = match &self.allowed_signers {
            Some(path) => Some(Signers::parse(&String::from_utf8_lossy(&read(path)?))),
            None => None,
        };
        let keyring = self.keyring.as_ref().map(read).transpose()?;
        Ok(Keys { signers, keyring })
    }
}

struct Keys {
    signers: Option<Signers>,
    keyring: Option<Vec<u8>>,
}

impl Keys {
    fn check(&self, signed: Option<Signed>) -> Result<(), Why> {
        let signed = signed.ok_or(Why::Unsigned)?;
        if signed.signature.starts_with(b"-----BEGIN SSH SIGNATURE-----") {
            let none = || {
                Why::Unsupported("signed with SSH, but there is no --verify-allowed-signers-file".to_owned())
            };
            return self.signers.as_ref().ok_or_else(none)?.check(&signed);
        }
        if signed.signature.starts_with(b"-----BEGIN PGP ") {
            let none = || {
                Why::Unsupported("signed with OpenPGP, but there is no --verify-openpgp-keyring".to_owned())
            };
            return check_openpgp(self.keyring.as_ref().ok_or_else(none)?, &signed);
        }
        Err(Why::Unsupported("signed in a way that isn't known here (SSH and OpenPGP are)".to_owned()))
    }
}

#[cfg(feature = "openpgp")]
fn check_openpgp(keyring: &[u8], signed: &Signed) -> Result<(), Why> {
    openpgp::check(keyring, signed)
}

#[cfg(not(feature = "openpgp"))]
fn check_openpgp(_: &[u8], _: &Signed) -> Result<(), Why> {
    Err(Why::Unsupported("this build knows no OpenPGP".to_owned()))
}

/// The commits that `head` has and `old` doesn't, `head` first. As git does it: the newest first, and
/// what the old one reaches is crossed out on the way. A wrong clock can only add commits.
fn new_commits(
    objects: &Objects,
    head: ObjectId,
    old: Option<ObjectId>,
    cancel: &CancellationToken,
) -> Result<Vec<ObjectId>, RepoError> {
    let time = |id| objects.describe(id).map(|info| info.time);
    let mut known: HashMap<ObjectId, bool> = HashMap::new();
    let mut queue = BinaryHeap::new();
    for (id, is_old) in [(Some(head), false), (old, true)] {
        // What was published before may be gone from a rebuilt store; then all is new.
        let Some(id) = id.filter(|id| *id == head || objects.has(*id)) else { continue };
        known.insert(id, is_old);
        queue.push((time(id)?, id));
    }
    let mut open = known.values().filter(|is_old| !**is_old).count();
    let mut new = Vec::new();
    while open > 0 {
        let Some((_, id)) = queue.pop() else { break };
        if cancel.is_cancelled() {
            return Err(RepoError::Cancelled);
        }
        if known.len() > MAX_COMMITS {
            return Err(RepoError::TooMuch {
                what: "commits since the last publication",
                limit: MAX_COMMITS,
            });
        }
        let is_old = known[&id];
        if !is_old {
            open -= 1;
            new.push(id);
        }
        for parent in objects.commit(id)?.parents {
            if !objects.has(parent) {
                if is_old {
                    continue;
                }
                return Err(RepoError::NotFound(format!(
                    "--verify=all-new can't see all new commits: {parent} is deeper than --depth; use --depth=0"
                )));
            }
            match known.get(&parent) {
                None => {
                    known.insert(parent, is_old);
                    open += usize::from(!is_old);
                    queue.push((time(parent)?, parent));
                }
                Some(false) if is_old => {
                    known.insert(parent, true);
                    // If it was told already, it's checked without need; if not, it's crossed out.
                    open -= usize::from(!new.contains(&parent));
                }
                Some(_) => {}
            }
        }
    }
    Ok(new)
}

/// See [`crate::fuzz::signature`].
#[cfg(fuzzing)]
pub(crate) fn fuzz(object: &[u8], signers: &str) {
    let keys = Keys { signers: Some(Signers::parse(signers)), keyring: None };
    for signed in [object::commit(object), object::tag(object)].into_iter().flatten() {
        // What is signed is a part of the object, so nothing can be made up here.
        assert!(signed.payload.len() <= object.len() && signed.signature.len() <= object.len());
        let _ = keys.check(Some(signed));
    }
}
