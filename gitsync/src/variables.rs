//! Variables and flags whose text isn't what their setting takes.
//!
//! kubernetes/git-sync reads each variable before any flag, so that a flag doesn't hide a bad one, and an
//! empty one counts as set.

use std::time::Duration;

use common::config::{ConfigError, FromSetting, Kind, Layers, Origin, Settings};
use gitsync::APP;

/// Settings that are whole numbers.
const NUMBERS: &[&str] = &[
    "depth",
    "max-failures",
    "init-max-failures",
    "webhook-success-status",
    "github-app-application-id",
    "github-app-installation-id",
    "verbose",
    "timeout",
    "max-sync-failures",
    "change-permissions",
];
/// Settings that are durations.
const TIMES: &[&str] = &[
    "stale-worktree-timeout",
    "period",
    "init-period",
    "sync-timeout",
    "exechook-timeout",
    "exechook-backoff",
    "pre-publish-exechook-timeout",
    "pre-publish-exechook-backoff",
    "webhook-timeout",
    "webhook-backoff",
];

/// What is wrong with the first bad one of the process's variables.
pub(crate) fn unreadable() -> Option<ConfigError> {
    let mut layers = Layers::new(&APP);
    layers.process_environment();
    first_unreadable(&layers.finish())
}

/// What is wrong with the first variable or flag that isn't what its setting takes.
pub(crate) fn first_unreadable(settings: &Settings) -> Option<ConfigError> {
    APP.settings.iter().find_map(|setting| {
        let name = setting.name;
        let check = match name {
            _ if setting.kind == Kind::Bool => check::<bool>,
            "wait" => check::<f64>,
            name if NUMBERS.contains(&name) => check::<i64>,
            name if TIMES.contains(&name) => check::<Duration>,
            _ => return None,
        };
        check(settings, name)
    })
}

fn check<T: FromSetting>(settings: &Settings, name: &'static str) -> Option<ConfigError> {
    let Some(Origin::Environment(_) | Origin::Flag) = settings.origin(name) else { return None };
    let text = settings.text(name)?;
    match text.is_empty() {
        true => Some(settings.invalid(name, "is empty")),
        false => T::from_setting(text).err().map(|reason| settings.invalid(name, &reason)),
    }
}
