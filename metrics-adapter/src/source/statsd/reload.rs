//! Reading the mapping file again: on SIGHUP, on `/-/reload`, and when it changes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::shutdown::Shutdown;
use common::watch::Watch;
use tokio::sync::Notify;

use super::shared::Shared;
use crate::mapping::{Mapping, MappingError};

/// A handle that asks for a reload; clones ask the same.
///
/// ```
/// # use metrics_adapter::{Layers, source::statsd};
/// # let mut config = statsd::Config::from_settings(&Layers::new(&statsd::APP).finish()).unwrap();
///
/// let reload = config.reload.clone(); // before `config` goes into `run`
/// reload.ask();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Reload(Arc<Notify>);

impl Reload {
    /// Asks; several askings before the reload count as one.
    ///
    /// ```
    /// metrics_adapter::source::statsd::Reload::default().ask();
    /// ```
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

/// A reload that changed nothing.
#[derive(Debug, thiserror::Error)]
#[error("the old mapping stays in use")]
pub struct ReloadError(#[from] MappingError);

/// How often the file is looked at where the system sends no notifications.
const POLL: Duration = Duration::from_secs(10);
/// How long a file must stand still before it is read, and how often it may move before it is read anyway.
const STILL: Duration = Duration::from_millis(200);
const MOVES: usize = 50;

/// Starts watching; done before the file is first read, so that no change is missed.
pub(super) fn watch(path: Option<&PathBuf>) -> Option<Watch> {
    path.map(|path| Watch::new([path.clone()], POLL))
}

/// The reason of a reload that nobody asked for.
const CHANGED: &str = "file changed";

/// Waits for a change, and then for its end, so that a file that is being written is not read half.
async fn settled(watch: &mut Watch) {
    watch.changed().await;
    for _ in 0..MOVES {
        if tokio::time::timeout(STILL, watch.changed()).await.is_err() {
            return;
        }
    }
}

/// Reloads until shutdown. Without a file only the request is counted, as the peer does.
pub(super) async fn run(
    path: Option<PathBuf>,
    mut watch: Option<Watch>,
    shared: Arc<Shared>,
    reload: Reload,
    shutdown: Shutdown,
) {
    loop {
        let why = tokio::select! {
            () = reload.0.notified() => "asked to",
            () = async {
                match &mut watch {
                    Some(watch) => settled(watch).await,
                    None => std::future::pending().await,
                }
            } => CHANGED,
            () = shutdown.triggered() => return,
        };
        let Some(path) = path.clone() else {
            tracing::warn!("asked to reload, but there is no mapping file");
            continue;
        };
        if why == CHANGED && std::fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
            // Whoever writes a file in place empties it first.
            tracing::info!(
                "the mapping file is empty now; the old mapping stays in use until it has content"
            );
            continue;
        }
        if let Some(watch) = &mut watch {
            // A file that was changed and then asked to be read counts once.
            watch.mark_seen();
        }
        // Compiling many patterns takes a while.
        let loaded = tokio::task::spawn_blocking(move || Mapping::load(&path)).await;
        match loaded {
            Ok(Ok(mapping)) => {
                tracing::info!(why, rules = mapping.rules.len(), "mapping reloaded");
                shared.remap(mapping);
                shared.traffic.reloads.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Err(error)) => {
                let error = ReloadError(error);
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(why, cause, "{error}");
                shared.traffic.failed_reloads.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => tracing::error!(%error, "reloading the mapping failed"),
        }
    }
}
