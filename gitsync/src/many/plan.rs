//! From a YAML file to the list of sources, each a [`Config`] of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use common::config::{App, ConfigError, Document, Layers, Setting, Settings};
use semver::VersionReq;
use sha1::{Digest as _, Sha1};

use super::HIDDEN;
use crate::config::Config;
use crate::protocol::{Glob, hex};
use crate::{APP, DEPRECATED};

/// The key of the list.
const LIST: &str = "sources";
/// Sources in one file.
const MAX_SOURCES: usize = 1_000;
/// Refs that a source follows at most, unless it says otherwise, and at the very most.
const USUAL_MAX: &str = "50";
const MOST_REFS: usize = 1_000;
/// Longest name of a source.
const MAX_NAME: usize = 100;

/// Keys that only a source has.
const OWN: &[Setting] = &[
    Setting::text("name", "NAME", "What it is called"),
    Setting::list("refs", "PATTERN", "Follow all refs that fit, each in a folder of its own"),
    Setting::text("tags", "RANGE", "Follow the tag of the newest version in this range"),
    Setting::text("max", "N", "How many refs are followed").default(USUAL_MAX),
    Setting::switch("optional", "The process is ready without it"),
];

/// Settings that concern the process, not one source.
const PROCESS: &[&str] = &[
    "sources",
    "one-time",
    "sync-on-signal",
    "webhook-listen",
    "push-webhook-secret-file",
    "push-webhook-path",
    "push-webhook-window",
    "api-token-file",
    "http-bind",
    "http-metrics",
    "http-events",
    "http-pprof",
    "group-write",
    "verbose",
    "man",
    "git",
    "add-user",
];

/// What has to be the same for all sources of one repository, which is reached only once.
const REMOTE: &[&str] = &[
    "repo",
    "username",
    "password",
    "password-file",
    "credential",
    "ssh-key-file",
    "ssh-known-hosts",
    "ssh-known-hosts-file",
    "cookie-file",
    "askpass-url",
    "github-base-url",
    "github-app-private-key",
    "github-app-private-key-file",
    "github-app-application-id",
    "github-app-client-id",
    "github-app-installation-id",
    "git-config",
    "git-config-add",
];

static SOURCE: LazyLock<App> = LazyLock::new(|| {
    let settings: Vec<Setting> = OWN.iter().chain(APP.settings).copied().collect();
    App { settings: settings.leak(), ..APP }
});

/// What a file says.
pub(super) struct Plan {
    /// Of the process, and what sources have in common.
    pub(super) settings: Settings,
    /// Where stores and working directories are, unless a source says otherwise.
    pub(super) root: PathBuf,
    pub(super) sources: Vec<Source>,
}

/// One entry of the list.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) config: Config,
    pub(super) kind: Kind,
    /// The process is ready without it.
    pub(super) optional: bool,
    /// Which store it shares with others of the same repository.
    pub(super) store: String,
    line: u64,
    settings: Settings,
}

#[derive(Clone)]
pub(super) enum Kind {
    One,
    Many { globs: Vec<Glob>, max: usize },
}

impl Source {
    /// Whether nothing about it changed but its place in the file.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        self.settings.says_the_same(&other.settings)
    }
}

impl Plan {
    /// `below`: what flags, variables and `--config` say.
    pub(super) fn read(path: &Path, below: &Settings) -> Result<Self, ConfigError> {
        let document = Document::read(path, LIST)?;
        let mut top = Layers::above(&APP, below);
        top.document(&document)?;
        // Flags and variables win over a file, as everywhere; only what one source says is stronger.
        top.stronger(below);
        let settings = top.finish();
        let root =
            settings.text("root").filter(|root| !root.is_empty()).ok_or_else(|| settings.missing("root"))?;
        let root = std::path::absolute(root).map_err(|error| settings.invalid("root", &error.to_string()))?;
        let lines: Vec<u64> = document.lines().collect();
        let fail = |line: Option<u64>, reason: String| ConfigError::File {
            path: path.display().to_string(),
            line,
            reason,
        };
        if lines.is_empty() {
            return Err(fail(None, format!("`{LIST}` is missing or empty: there is nothing to sync")));
        }
        if lines.len() > MAX_SOURCES {
            return Err(fail(None, format!("{} sources; there can be {MAX_SOURCES}", lines.len())));
        }
        let mut sources: Vec<Source> = Vec::new();
        for (at, line) in lines.into_iter().enumerate() {
            refuse_keys(path, &document, at)?;
            let mut layers = Layers::above(&SOURCE, &settings);
            layers.item(&document, at)?;
            let keys: Vec<&str> = document.keys(at).map(|(key, _)| key).collect();
            let source = source(layers.finish(), line, &keys).map_err(|error| placed(error, path, line))?;
            if let Some((other, reason)) =
                sources.iter().find_map(|other| Some((other, clash(other, &source)?)))
            {
                let reason = format!(
                    "source `{}`: {reason} source `{}` (line {})",
                    source.name, other.name, other.line
                );
                return Err(fail(Some(line), reason));
            }
            sources.push(source);
        }
        Ok(Self { settings, root, sources })
    }

    /// The settings of each remote: of all its sources' depths the deepest, of their periods the shortest.
    pub(super) fn remotes(&self) -> BTreeMap<String, Config> {
        let stores: BTreeSet<&String> = self.sources.iter().map(|source| &source.store).collect();
        stores.into_iter().filter_map(|store| Some((store.clone(), self.remote(store)?))).collect()
    }

    /// Those of one of them.
    pub(super) fn remote(&self, store: &str) -> Option<Config> {
        let mut configs =
            self.sources.iter().filter(|source| source.store == store).map(|source| &source.config);
        let mut remote = configs.next()?.clone();
        for config in configs {
            remote.period = remote.period.min(config.period);
            remote.depth = match (remote.depth, config.depth) {
                (0, _) | (_, 0) => 0,
                (one, other) => one.max(other),
            };
        }
        Some(remote)
    }

    /// All that the settings of a remote say, to notice when it changes.
    pub(super) fn print(&self, store: &str, remote: &Config) -> String {
        let texts = self.sources.iter().find(|source| source.store == store).map(|source| {
            REMOTE.iter().map(|name| source.settings.text(name).unwrap_or_default()).collect::<Vec<_>>()
        });
        format!("{} {:?} {} {texts:?}", remote.depth, remote.period, remote.jitter)
    }

    /// Settings that differ from those of `new` and are only looked at when the process starts.
    pub(super) fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let differs = |name: &&str| self.settings.text(name) != new.settings.text(name);
        PROCESS.iter().copied().filter(differs).collect()
    }

    /// Where the stores and the list of what is on disk are.
    pub(super) fn hidden(&self) -> PathBuf {
        self.root.join(HIDDEN)
    }
}

/// Keys that are good somewhere else say so.
fn refuse_keys(path: &Path, document: &Document, at: usize) -> Result<(), ConfigError> {
    for (key, line) in document.keys(at) {
        let refuse = |reason: String| {
            let place = format!("{}:{line}: {key}", path.display());
            Err(ConfigError::Value { place, reason })
        };
        if PROCESS.contains(&key) {
            return refuse("concerns the whole process; it belongs above the list of sources".to_owned());
        }
        if let Some((_, instead)) = DEPRECATED.iter().find(|(name, _)| *name == key) {
            return refuse(format!("is an old name, use {}", instead.trim_start_matches('-')));
        }
        let setting = SOURCE.settings.iter().find(|setting| setting.name == key);
        if setting.is_some_and(|setting| setting.hidden) {
            return refuse("is no key of a file".to_owned());
        }
    }
    Ok(())
}

fn source(settings: Settings, line: u64, keys: &[&str]) -> Result<Source, ConfigError> {
    let text = |name: &str| settings.text(name).filter(|text| !text.is_empty());
    let name =
        text("name").ok_or_else(|| ConfigError::Conflict("a source needs a `name`".to_owned()))?.to_owned();
    if !is_name(&name) {
        let reason = "must be letters, digits, `.`, `_` and `-`, and begin with a letter or digit";
        return Err(settings.invalid("name", reason));
    }
    if text("repo").is_none() {
        return Err(ConfigError::Conflict(format!("source `{name}` needs a `repo`")));
    }
    let mut config = Config::from_settings(&settings)?;
    let root =
        std::path::absolute(&config.root).map_err(|error| settings.invalid("root", &error.to_string()))?;
    config.name = Some(name.clone());
    config.link = root.join(text("link").unwrap_or(&name));
    config.root = root.join(HIDDEN).join(&name);
    if config.root.starts_with(&config.link) || config.link.starts_with(root.join(HIDDEN)) {
        return Err(settings.invalid("link", &format!("is where `{HIDDEN}` is, or in it")));
    }
    for file in [&mut config.touch_file, &mut config.error_file].into_iter().flatten() {
        *file = root.join(&*file);
    }
    if config.max_failures.is_none() && !config.one_time {
        // The others go on, so this one does.
        config.max_failures = Some(-1);
    }
    if config.filter.is_some() {
        return Err(
            settings.invalid("filter", "can't be used here: what several sources share has to be whole")
        );
    }
    let kind = kind(&settings, keys, &mut config)?;
    let store = hex(&Sha1::digest(config.git.rewrite(&config.repo).as_bytes())[..8]);
    let optional = settings.value("optional")?;
    Ok(Source { name, config, kind, optional, store, line, settings })
}

/// What is followed.
fn kind(settings: &Settings, keys: &[&str], config: &mut Config) -> Result<Kind, ConfigError> {
    let patterns: Vec<String> = settings.list("refs")?;
    let range = settings.text("tags").filter(|text| !text.is_empty());
    for (name, other) in [("tags", "refs"), ("tags", "ref"), ("refs", "ref")] {
        if keys.contains(&name) && keys.contains(&other) {
            return Err(settings.invalid(name, &format!("can't be given with `{other}`")));
        }
    }
    if let Some(range) = range {
        let range = VersionReq::parse(range).map_err(|error| {
            settings.invalid(
                "tags",
                &format!("`{range}` is no range of versions like `^1.2` or `>=1.0, <2.0`: {error}"),
            )
        })?;
        config.versions = Some(range);
    }
    let max: i64 = settings.value("max")?;
    let max = usize::try_from(max).ok().filter(|max| (1..=MOST_REFS).contains(max));
    let max = max.ok_or_else(|| settings.invalid("max", &format!("must be 1 to {MOST_REFS}")))?;
    if patterns.is_empty() {
        return match settings.is_set("max") {
            true => Err(settings.invalid("max", "is for sources with `refs`")),
            false => Ok(Kind::One),
        };
    }
    if config.error_file.is_some() {
        return Err(
            settings.invalid("error-file", "is one file; a source with `refs` has many that could write it")
        );
    }
    config.reference = patterns.join(" ");
    Ok(Kind::Many { globs: patterns.iter().map(|text| Glob::new(text)).collect(), max })
}

fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.len() <= MAX_NAME && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(good)
}

/// Why two sources can't be there together: words that the other one's name follows.
fn clash(one: &Source, other: &Source) -> Option<String> {
    if one.name.eq_ignore_ascii_case(&other.name) {
        return Some("is called like".to_owned());
    }
    let (a, b) = (&one.config.link, &other.config.link);
    if a.starts_with(b) || b.starts_with(a) {
        return Some("`link` is that of, or lies in that of,".to_owned());
    }
    if one.store == other.store {
        let differs = |name: &&&str| one.settings.text(name) != other.settings.text(name);
        let name = REMOTE.iter().find(differs)?;
        return Some(format!("`{name}` must be the same, since it has the same repository, as in"));
    }
    None
}

/// Errors that don't know their place get that of the source.
fn placed(error: ConfigError, path: &Path, line: u64) -> ConfigError {
    match error {
        ConfigError::Conflict(reason) if !reason.starts_with(&path.display().to_string()) => {
            ConfigError::File { path: path.display().to_string(), line: Some(line), reason }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(text: &str, flags: &[(&str, &str)]) -> Result<Plan, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut layers = Layers::new(&APP);
        for (name, value) in flags {
            layers.flag(name, vec![(*value).to_owned()]).unwrap();
        }
        let plan = Plan::read(file.path(), &layers.finish());
        plan.map_err(|error| error.to_string().replace(&file.path().display().to_string(), "FILE"))
    }

    const GOOD: &str = "root: /v\nperiod: 30s\ndepth: 2\nsources:\n\
        - {name: site, repo: https://h/a.git, ref: main, period: 5s}\n\
        - {name: previews, repo: https://h/a.git, refs: [preview/*, refs/tags/x-*], max: 3, depth: 0}\n\
        - name: docs\n  repo: https://h/b.git\n  tags: '>=1.0, <2.0'\n  link: deep/docs\n  optional: yes\n";

    #[test]
    fn sources_have_what_they_say_and_else_what_all_have() {
        let plan = read(GOOD, &[("period", "1m")]).unwrap();
        let [site, previews, docs] = &plan.sources[..] else { panic!() };
        assert_eq!(
            (site.config.period, docs.config.period),
            (Duration::from_secs(5), Duration::from_secs(60))
        );
        assert_eq!(site.config.link, Path::new("/v/site"));
        assert_eq!(site.config.root, Path::new("/v/.gitsync/site"));
        assert_eq!(docs.config.link, Path::new("/v/deep/docs"));
        assert!(docs.optional && docs.config.versions.is_some() && !site.optional);
        assert!(matches!(&previews.kind, Kind::Many { globs, max: 3 } if globs.len() == 2));
        let remotes = plan.remotes();
        assert_eq!(remotes.len(), 2);
        let shared = &remotes[&site.store];
        assert_eq!((shared.depth, shared.period), (0, Duration::from_secs(5)));
        assert!(site.is_as(&read(&format!("# moved\n{GOOD}"), &[]).unwrap().sources[0]));
        assert!(!docs.is_as(&read(&GOOD.replace("<2.0", "<3.0"), &[("period", "1m")]).unwrap().sources[2]));
    }

    #[test]
    fn what_is_wrong_is_named_with_file_line_and_key() {
        let with = |line: &str| {
            format!("root: /v\nsources:\n- {{name: a, repo: https://h/a}}\n- {{name: b, {line}}}\n")
        };
        for (text, wanted) in [
            (with("repo: https://h/b, perid: 1s"), "FILE:4: unknown key `perid`, did you mean `period`?"),
            (with("repo: https://h/b, period: soon"), "FILE:4: period: "),
            (with("repo: https://h/b, http-bind: ':1'"), "FILE:4: http-bind: concerns the whole process"),
            (with("repo: https://h/b, branch: x"), "FILE:4: branch: is an old name, use ref"),
            (with("repo: https://h/b, tags: new"), "FILE:4: tags: `new` is no range"),
            (with("repo: https://h/b, tags: ^1, refs: [a]"), "FILE:4: tags: can't be given with `refs`"),
            (with("repo: https://h/b, tags: ^1, ref: a"), "FILE:4: tags: can't be given with `ref`"),
            (with("repo: https://h/b, refs: [a], max: 0"), "FILE:4: max: must be 1 to"),
            (with("repo: https://h/b, filter: 'blob:none'"), "FILE:4: filter: can't be used here"),
            (with("repo: https://h/b, max: 5"), "FILE:4: max: is for sources with `refs`"),
            (with("repo: https://h/b, link: a/x"), "FILE:4: source `b`: `link`"),
            (with("repo: https://h/b, link: .gitsync/x"), "FILE:4: link: "),
            (with("repo: https://h/a, username: u, password-file: f"), "FILE:4: source `b`: `username`"),
            (with("ref: x"), "FILE:4: source `b` needs a `repo`"),
            (with("repo: https://h/b, username: u"), "FILE:4: --username needs"),
            (with("repo: https://h/b").replace("name: b", "name: A"), "FILE:4: source `A`: is called like"),
            (with("repo: https://h/b").replace("name: b", "name: ../b"), "FILE:4: name: must be"),
            (with("repo: https://h/b").replace("name: b, ", ""), "FILE:4: a source needs a `name`"),
            ("root: /v\nsorces: []\n".to_owned(), "FILE:2: unknown key `sorces`"),
            ("root: /v\n".to_owned(), "FILE: `sources` is missing"),
            ("sources:\n- {name: a, repo: x}\n".to_owned(), "--root is required"),
        ] {
            let error = read(&text, &[]).map(|_| ()).unwrap_err();
            assert!(error.starts_with(wanted), "{error:?} for {text}");
        }
    }
}
