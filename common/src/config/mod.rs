//! Settings: defaults < YAML file < environment < flags.
//!
//! A program declares its settings once, as data ([`Setting`], [`App`]). Each layer adds raw text
//! together with its [`Origin`]; typed values are parsed from the layer that wins, and a value that
//! does not parse is reported with the flag, the variable, or the file and line it was read from.
//! Unknown keys are refused with the nearest valid name, since a typo must not run.
//!
//! ```
//! use common::config::{App, Layers, Setting};
//! use std::time::Duration;
//!
//! const APP: App = App {
//!     settings: &[Setting::text("period", "DURATION", "Pause between two looks").default("10s")],
//!     ..App::new("demo", "DEMO", "Looks now and then")
//! };
//! let mut layers = Layers::new(&APP);
//! layers.environment([("DEMO_PERIOD", "250ms")]);
//! let settings = layers.finish();
//! assert_eq!(settings.value::<Duration>("period").unwrap(), Duration::from_millis(250));
//! ```

mod file;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use file::{FileValue, Items};
pub use value::{ByteSize, FromSetting, ListenAddr, duration, format_duration};

/// How a setting is written on the command line and how often it may be given.
///
/// ```
/// use common::config::{Kind, Setting};
///
/// assert_eq!(Setting::list("server", "ADDR", "Repeatable").kind, Kind::List);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One text value; a later layer replaces an earlier one.
    Text,
    /// True or false; on the command line the value is optional and needs `=`.
    Bool,
    /// Repeatable; the values of one layer replace those of the layers below.
    List,
}

/// One setting of a program, in all its spellings.
///
/// ```
/// use common::config::Setting;
///
/// const SETTINGS: &[Setting] = &[
///     Setting::text("token", "TEXT", "Never on the command line").secret(),
///     Setting::text("period", "DURATION", "Pause between two looks").short('p').default("10s").group("When"),
///     Setting::switch("once", "Look once and leave").negatable().extra_env(&["OLD_ONCE"]).only_extra_env(),
///     Setting::list("server", "ADDR", "Repeatable").env_separator(Some(';')).gathers().hidden(),
/// ];
/// assert_eq!(SETTINGS[1].default, Some("10s"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The long flag without dashes; also the key in the YAML file.
    pub name: &'static str,
    /// One-letter flag.
    pub short: Option<char>,
    /// Variables besides `PREFIX_NAME`, lowest precedence first; all of them lose against it, unless
    /// [`App::extra_env_wins`].
    pub extra_env: &'static [&'static str],
    /// What separates the values of a [`Kind::List`] in a variable; `None` takes its text as one value.
    pub env_separator: Option<char>,
    /// Value when nothing sets it; `None` means unset.
    pub default: Option<&'static str>,
    /// How it is written.
    pub kind: Kind,
    /// What the value stands for in `--help`.
    pub value_name: &'static str,
    /// One sentence for `--help`.
    pub help: &'static str,
    /// Heading in `--help`.
    pub group: &'static str,
    /// Left out of `--help`.
    pub hidden: bool,
    /// `--no-NAME` sets a boolean to false.
    pub negatable: bool,
    /// Only settable by variable or file, so that it never shows in the process list.
    pub secret: bool,
    /// `PREFIX_NAME` is not read; [`Setting::extra_env`] is.
    pub only_extra_env: bool,
    /// Values of a [`Kind::List`] from flags join those of the variable instead of replacing them.
    pub gathers: bool,
}

impl Setting {
    const fn new(name: &'static str, kind: Kind, value_name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            short: None,
            extra_env: &[],
            env_separator: Some(','),
            default: None,
            kind,
            value_name,
            help,
            group: "Options",
            hidden: false,
            negatable: false,
            secret: false,
            only_extra_env: false,
            gathers: false,
        }
    }

    /// A setting with one value.
    #[must_use]
    pub const fn text(name: &'static str, value_name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Text, value_name, help)
    }

    /// A switch, off unless a default says otherwise.
    #[must_use]
    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Bool, "BOOL", help).default("false")
    }

    /// A repeatable setting.
    #[must_use]
    pub const fn list(name: &'static str, value_name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::List, value_name, help)
    }

    /// Sets the default.
    #[must_use]
    pub const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    /// Sets the one-letter flag.
    #[must_use]
    pub const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    /// Adds variables besides `PREFIX_NAME`.
    #[must_use]
    pub const fn extra_env(mut self, names: &'static [&'static str]) -> Self {
        self.extra_env = names;
        self
    }

    /// Sets what separates values in a variable.
    #[must_use]
    pub const fn env_separator(mut self, separator: Option<char>) -> Self {
        self.env_separator = separator;
        self
    }

    /// Sets the heading in `--help`.
    #[must_use]
    pub const fn group(mut self, heading: &'static str) -> Self {
        self.group = heading;
        self
    }

    /// Leaves it out of `--help`.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Adds `--no-NAME`.
    #[must_use]
    pub const fn negatable(mut self) -> Self {
        self.negatable = true;
        self
    }

    /// Takes it off the command line.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Takes its value from no variable but [`Setting::extra_env`].
    #[must_use]
    pub const fn only_extra_env(mut self) -> Self {
        self.only_extra_env = true;
        self
    }

    /// Lets flags add to what the variable holds.
    #[must_use]
    pub const fn gathers(mut self) -> Self {
        self.gathers = true;
        self
    }
}

/// A program, or one of its modes, and its settings.
///
/// ```
/// use common::config::{App, Setting};
///
/// const PERIOD: Setting = Setting::text("period", "DURATION", "Pause between two looks");
/// const APP: App = App { settings: &[PERIOD], ..App::new("demo", "DEMO", "Looks now and then") };
///
/// assert_eq!(APP.env_name(&PERIOD), "DEMO_PERIOD");
/// assert_eq!(APP.meant_variable("DEMO_PEROID"), Some("DEMO_PERIOD".to_owned()));
/// assert_eq!(APP.nearest("perod"), Some("period"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct App {
    /// The command as typed.
    pub name: &'static str,
    /// Prefix of the environment variables, without the underscore.
    pub env_prefix: &'static str,
    /// First line of `--help`.
    pub about: &'static str,
    /// Text after the flags in `--help`: examples.
    pub after_help: &'static str,
    /// [`Setting::extra_env`] beats `PREFIX_NAME`: what a peer does with the names it grew out of.
    pub extra_env_wins: bool,
    /// All settings.
    pub settings: &'static [Setting],
}

impl App {
    /// An app without settings; meant for struct update syntax.
    #[must_use]
    pub const fn new(name: &'static str, env_prefix: &'static str, about: &'static str) -> Self {
        Self { name, env_prefix, about, after_help: "", extra_env_wins: false, settings: &[] }
    }

    /// The environment variable of a setting: prefix and name, upper case, `-` and `.` as `_`.
    #[must_use]
    pub fn env_name(&self, setting: &Setting) -> String {
        let name = setting.name.to_ascii_uppercase().replace(['-', '.'], "_");
        format!("{}_{name}", self.env_prefix)
    }

    /// The variable that was probably meant by one that looks like this app's and is none. Nothing is said of what
    /// Kubernetes sets for a Service of the same name, nor of names that are like none of ours.
    #[must_use]
    pub fn meant_variable(&self, name: &str) -> Option<String> {
        let rest = name.strip_prefix(self.env_prefix)?.strip_prefix('_')?;
        let known = self.settings.iter().map(|setting| self.env_name(setting));
        let shared = ["CONFIG", "LOG_LEVEL", "LOG_FORMAT"].map(|rest| format!("{}_{rest}", self.env_prefix));
        let known: Vec<String> = known.chain(shared).collect();
        let other = |setting: &Setting| setting.extra_env.contains(&name);
        let foreign = rest.contains("SERVICE_") || rest.split('_').any(|word| word == "PORT");
        if foreign || known.iter().any(|known| known == name) || self.settings.iter().any(other) {
            return None;
        }
        let likeness = |known: &String| strsim::damerau_levenshtein(known, name);
        known.into_iter().min_by_key(likeness).filter(|known| likeness(known) <= 2)
    }

    fn setting(&self, name: &str) -> Option<&'static Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }

    /// The declared name that is closest to `name`, when one is close enough to be meant.
    #[must_use]
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.settings.iter().filter(|setting| !setting.hidden).map(|setting| setting.name))
    }
}

/// The candidate closest to `name`, when one is close enough to be meant.
///
/// ```
/// let modes = ["symlink", "atomic-dir"];
/// assert_eq!(common::config::nearest("simlink", modes), Some("symlink"));
/// assert_eq!(common::config::nearest("copy", modes), None);
/// assert_eq!(common::config::nearest("ulr", ["path", "url"]), Some("url"));
/// ```
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Two letters the wrong way round in a short name are far apart for Jaro and Winkler.
    let score = |candidate: &str| match name.len() > 2 && strsim::osa_distance(name, candidate) <= 1 {
        true => 1.0,
        false => strsim::jaro_winkler(name, candidate),
    };
    candidates
        .into_iter()
        .map(|candidate| (score(candidate), candidate))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Where a value was read.
///
/// ```
/// # use common::config::{App, Layers, Setting};
/// # const APP: App = App {
/// #     settings: &[
/// #         Setting::text("period", "DURATION", "Pause").default("10s"),
/// #         Setting::list("server", "ADDR", "Repeatable"),
/// #     ],
/// #     ..App::new("demo", "DEMO", "Looks now and then")
/// # };
/// use common::config::Origin;
///
/// let settings = Layers::new(&APP).finish();
/// assert_eq!(settings.origin("period"), Some(&Origin::Default));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A line (from 1) of the YAML file.
    File(PathBuf, u64),
    /// An environment variable.
    Environment(String),
    /// The command line, or an embedder's call.
    Flag,
}

/// What is wrong with a configuration, and where.
///
/// ```
/// # use common::config::{App, Layers, Setting};
/// # const APP: App = App {
/// #     settings: &[
/// #         Setting::text("period", "DURATION", "Pause").default("10s"),
/// #         Setting::list("server", "ADDR", "Repeatable"),
/// #     ],
/// #     ..App::new("demo", "DEMO", "Looks now and then")
/// # };
/// use common::config::ConfigError;
///
/// let mut layers = Layers::new(&APP);
/// layers.environment([("DEMO_PERIOD", "soon")]);
/// let error = layers.finish().value::<std::time::Duration>("period").unwrap_err();
/// assert!(matches!(error, ConfigError::Value { .. }));
/// assert!(error.to_string().contains("DEMO_PERIOD"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value that does not parse or is out of range.
    #[error("{place}: {reason}")]
    Value {
        /// The flag, variable, or file, line and key.
        place: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A key that no setting has.
    #[error("{place}: unknown key `{key}`{}", did_you_mean(*.nearest))]
    UnknownKey {
        /// File and line.
        place: String,
        /// The key as written.
        key: String,
        /// The closest valid key.
        nearest: Option<&'static str>,
    },
    /// A required setting without a value.
    #[error("--{name} is required (or the variable {variable})")]
    Missing {
        /// The setting.
        name: &'static str,
        /// Its environment variable.
        variable: String,
    },
    /// The file cannot be read or is not YAML.
    #[error("{path}{}: {reason}", .line.map(|line| format!(":{line}")).unwrap_or_default())]
    File {
        /// The file.
        path: String,
        /// The line, from 1, when known.
        line: Option<u64>,
        /// What is wrong.
        reason: String,
    },
    /// Settings that contradict each other.
    #[error("{0}")]
    Conflict(String),
}

/// What an error says behind a name that nobody knows; nothing when none is near.
#[doc(hidden)]
#[must_use]
pub fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default()
}

#[derive(Debug, Clone)]
struct Entry {
    texts: Vec<String>,
    origin: Origin,
}

/// A YAML file of settings that holds, under one key, a list of maps of settings.
#[doc(hidden)]
#[derive(Debug)]
pub struct Document {
    path: PathBuf,
    settings: Vec<FileValue>,
    items: Items,
}

impl Document {
    /// Reads the file; `list` is that key.
    ///
    /// # Errors
    /// The file cannot be read, is not such a map, or is over 1 MiB. Names are looked at when its values are
    /// added to [`Layers`].
    pub fn read(path: &Path, list: &str) -> Result<Self, ConfigError> {
        let (settings, items) = file::read(path, Some(list))?;
        Ok(Self { path: path.to_owned(), settings, items })
    }

    /// The line of each map of the list.
    pub fn lines(&self) -> impl Iterator<Item = u64> + '_ {
        self.items.iter().map(|(line, _)| *line)
    }

    /// The keys of one map of the list and their lines.
    pub fn keys(&self, at: usize) -> impl Iterator<Item = (&str, u64)> + '_ {
        self.items
            .get(at)
            .into_iter()
            .flat_map(|(_, values)| values)
            .map(|value| (&value.key[..], value.line))
    }
}

/// Collects the layers, lowest first; see the module's example.
///
/// ```
/// # use common::config::{App, Layers, Setting};
/// # const APP: App = App {
/// #     settings: &[
/// #         Setting::text("period", "DURATION", "Pause").default("10s"),
/// #         Setting::list("server", "ADDR", "Repeatable"),
/// #     ],
/// #     ..App::new("demo", "DEMO", "Looks now and then")
/// # };
///
/// let mut layers = Layers::new(&APP);
/// layers.environment([("DEMO_PERIOD", "1m"), ("DEMO_SERVER", "a:1,b:2")]);
/// layers.flag("period", vec!["5s".into()])?;
/// let settings = layers.finish();
/// assert_eq!(settings.text("period"), Some("5s"), "flags win");
/// # Ok::<(), common::config::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Layers {
    app: &'static App,
    entries: BTreeMap<&'static str, Entry>,
}

impl Layers {
    /// Starts with the defaults.
    ///
    /// ```
    /// # use common::config::{App, Layers, Setting};
    /// # const APP: App = App {
    /// #     settings: &[
    /// #         Setting::text("period", "DURATION", "Pause").default("10s"),
    /// #         Setting::list("server", "ADDR", "Repeatable"),
    /// #     ],
    /// #     ..App::new("demo", "DEMO", "Looks now and then")
    /// # };
    ///
    /// let layers = common::config::Layers::new(&APP);
    /// assert_eq!(layers.finish().text("period"), Some("10s"));
    /// ```
    #[must_use]
    pub fn new(app: &'static App) -> Self {
        let entries = app.settings.iter().filter_map(|setting| {
            let text = setting.default?;
            Some((setting.name, Entry { texts: vec![text.to_owned()], origin: Origin::Default }))
        });
        Self { app, entries: entries.collect() }
    }

    /// Adds a YAML file: a map of setting names to scalars or lists; nested maps join keys with `.`.
    ///
    /// # Errors
    /// The file cannot be read, is not such a map, is over 1 MiB, or names an unknown key.
    ///
    /// ```
    /// # use common::config::{App, Layers, Setting};
    /// # const APP: App = App {
    /// #     settings: &[
    /// #         Setting::text("period", "DURATION", "Pause").default("10s"),
    /// #         Setting::list("server", "ADDR", "Repeatable"),
    /// #     ],
    /// #     ..App::new("demo", "DEMO", "Looks now and then")
    /// # };
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("demo.yaml");
    /// std::fs::write(&path, "period: 1m\nserver: [a:1, b:2]\n")?;
    /// let mut layers = Layers::new(&APP);
    /// layers.file(&path)?;
    /// assert_eq!(layers.finish().text("period"), Some("1m"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        self.values(path, file::read(path, None)?.0)
    }

    /// Starts with the values of other settings, as far as `app` has them, over its defaults.
    #[doc(hidden)]
    #[must_use]
    pub fn above(app: &'static App, below: &Settings) -> Self {
        let mut layers = Self::new(app);
        for setting in app.settings {
            if let Some(entry) = below.entries.get(setting.name) {
                layers.entries.insert(setting.name, entry.clone());
            }
        }
        layers
    }

    /// Adds the settings of a document that lie outside of its list.
    ///
    /// # Errors
    /// As [`Layers::file`].
    #[doc(hidden)]
    pub fn document(&mut self, document: &Document) -> Result<(), ConfigError> {
        self.values(&document.path, document.settings.clone())
    }

    /// Adds one map of a document's list.
    ///
    /// # Errors
    /// As [`Layers::file`].
    #[doc(hidden)]
    pub fn item(&mut self, document: &Document, at: usize) -> Result<(), ConfigError> {
        let values = document.items.get(at).map(|(_, values)| values.clone()).unwrap_or_default();
        self.values(&document.path, values)
    }

    /// Adds those of other settings that come from variables and flags.
    #[doc(hidden)]
    pub fn stronger(&mut self, settings: &Settings) {
        for setting in self.app.settings {
            if let Some(entry) = settings.entries.get(setting.name)
                && matches!(entry.origin, Origin::Environment(_) | Origin::Flag)
            {
                self.entries.insert(setting.name, entry.clone());
            }
        }
    }

    fn values(&mut self, path: &Path, values: Vec<FileValue>) -> Result<(), ConfigError> {
        for value in values {
            let Some(setting) = self.app.setting(&value.key) else {
                return Err(ConfigError::UnknownKey {
                    place: format!("{}:{}", path.display(), value.line),
                    nearest: self.app.nearest(&value.key),
                    key: value.key,
                });
            };
            if value.texts.len() != 1 && setting.kind != Kind::List {
                return Err(ConfigError::Value {
                    place: format!("{}:{}: {}", path.display(), value.line, value.key),
                    reason: "takes one value, not a list".to_owned(),
                });
            }
            let origin = Origin::File(path.to_owned(), value.line);
            let texts = match setting.kind {
                Kind::Bool => value.texts.iter().map(|text| file::boolean(text).to_owned()).collect(),
                Kind::Text | Kind::List => value.texts,
            };
            self.entries.insert(setting.name, Entry { texts, origin });
        }
        Ok(())
    }

    /// Adds variables; those that belong to no setting are left alone.
    ///
    /// ```
    /// # use common::config::{App, Layers, Setting};
    /// # const APP: App = App {
    /// #     settings: &[
    /// #         Setting::text("period", "DURATION", "Pause").default("10s"),
    /// #         Setting::list("server", "ADDR", "Repeatable"),
    /// #     ],
    /// #     ..App::new("demo", "DEMO", "Looks now and then")
    /// # };
    ///
    /// let mut layers = Layers::new(&APP);
    /// layers.environment([("DEMO_SERVER", "a:1,b:2"), ("HOME", "/root")]);
    /// assert_eq!(layers.finish().list::<String>("server").unwrap(), ["a:1", "b:2"]);
    /// ```
    pub fn environment<K: AsRef<str>, V: Into<String>>(
        &mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        for (name, text) in variables {
            seen.insert(name.as_ref().to_owned(), text.into());
        }
        for setting in self.app.settings {
            let own = (!setting.only_extra_env).then(|| self.app.env_name(setting));
            let has_own = own.is_some();
            let extra = setting.extra_env.iter().map(|name| (*name).to_owned());
            let mut names: Vec<String> = extra.chain(own).collect();
            if self.app.extra_env_wins && has_own {
                names.rotate_right(1);
            }
            for name in names {
                if let Some(text) = seen.get(&name) {
                    let texts = match (setting.kind, setting.env_separator) {
                        (Kind::List, Some(separator)) => {
                            text.split(separator).map(|part| part.trim().to_owned()).collect()
                        }
                        (Kind::List, None) | (Kind::Text | Kind::Bool, _) => vec![text.clone()],
                    };
                    self.entries.insert(setting.name, Entry { texts, origin: Origin::Environment(name) });
                }
            }
        }
    }

    /// Adds the process's own environment; a variable that is not UTF-8 is passed over.
    ///
    /// ```
    /// # use common::config::{App, Layers, Setting};
    /// # const APP: App = App {
    /// #     settings: &[
    /// #         Setting::text("period", "DURATION", "Pause").default("10s"),
    /// #         Setting::list("server", "ADDR", "Repeatable"),
    /// #     ],
    /// #     ..App::new("demo", "DEMO", "Looks now and then")
    /// # };
    ///
    /// let mut layers = Layers::new(&APP);
    /// layers.process_environment();
    /// assert!(!layers.finish().is_set("server"), "nobody has set DEMO_SERVER");
    /// ```
    pub fn process_environment(&mut self) {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        self.environment(variables.collect::<Vec<_>>());
    }

    /// Adds what the command line, or an embedder, says of one setting.
    ///
    /// # Errors
    /// No setting has this name.
    ///
    /// ```
    /// # use common::config::{App, Layers, Setting};
    /// # const APP: App = App {
    /// #     settings: &[
    /// #         Setting::text("period", "DURATION", "Pause").default("10s"),
    /// #         Setting::list("server", "ADDR", "Repeatable"),
    /// #     ],
    /// #     ..App::new("demo", "DEMO", "Looks now and then")
    /// # };
    ///
    /// let mut layers = Layers::new(&APP);
    /// layers.flag("server", vec!["a:1".into(), "b:2".into()])?;
    /// assert!(layers.flag("sever", vec![]).unwrap_err().to_string().contains("`server`"));
    /// # Ok::<(), common::config::ConfigError>(())
    /// ```
    pub fn flag(&mut self, name: &str, texts: Vec<String>) -> Result<(), ConfigError> {
        let Some(setting) = self.app.setting(name) else {
            return Err(ConfigError::UnknownKey {
                place: "command line".to_owned(),
                key: name.to_owned(),
                nearest: self.app.nearest(name),
            });
        };
        let earlier = self.entries.remove(setting.name).filter(|_| setting.gathers);
        let from_variable = earlier.filter(|entry| matches!(entry.origin, Origin::Environment(_)));
        let mut all = from_variable.map(|entry| entry.texts).unwrap_or_default();
        all.extend(texts);
        self.entries.insert(setting.name, Entry { texts: all, origin: Origin::Flag });
        Ok(())
    }

    /// The winning values.
    ///
    /// ```
    /// # use common::config::{App, Layers, Setting};
    /// # const APP: App = App {
    /// #     settings: &[
    /// #         Setting::text("period", "DURATION", "Pause").default("10s"),
    /// #         Setting::list("server", "ADDR", "Repeatable"),
    /// #     ],
    /// #     ..App::new("demo", "DEMO", "Looks now and then")
    /// # };
    ///
    /// let settings = Layers::new(&APP).finish();
    /// assert_eq!(settings.text("period"), Some("10s"));
    /// ```
    #[must_use]
    pub fn finish(self) -> Settings {
        Settings { app: self.app, entries: self.entries }
    }
}

/// The winning raw values, each with its origin.
///
/// ```
/// # use common::config::{App, Layers, Setting};
/// # const APP: App = App {
/// #     settings: &[
/// #         Setting::text("period", "DURATION", "Pause").default("10s"),
/// #         Setting::list("server", "ADDR", "Repeatable"),
/// #     ],
/// #     ..App::new("demo", "DEMO", "Looks now and then")
/// # };
/// use common::config::ListenAddr;
/// use std::time::Duration;
///
/// let mut layers = Layers::new(&APP);
/// layers.flag("server", vec!["a:1".into()])?;
/// let settings = layers.finish();
/// assert_eq!(settings.value::<Duration>("period")?, Duration::from_secs(10));
/// assert_eq!(settings.list::<ListenAddr>("server")?[0].port, 1);
/// assert_eq!(settings.optional::<String>("server")?.as_deref(), Some("a:1"));
/// assert!(settings.is_set("server"));
/// assert_eq!(settings.changed(), [("server", "a:1".to_owned())]);
/// // What a program finds out itself is reported like what does not parse, and names the flag.
/// assert!(settings.invalid("server", "is down").to_string().starts_with("--server"));
/// assert!(settings.missing("server").to_string().contains("DEMO_SERVER"));
/// assert!(settings.text("period").is_some() && settings.origin("period").is_some());
/// # Ok::<(), common::config::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Settings {
    app: &'static App,
    entries: BTreeMap<&'static str, Entry>,
}

impl Settings {
    /// A required value.
    ///
    /// # Errors
    /// Unset, or it does not parse.
    pub fn value<T: FromSetting>(&self, name: &'static str) -> Result<T, ConfigError> {
        self.optional(name)?.ok_or_else(|| self.missing(name))
    }

    /// An optional value. Text that is set but empty counts as unset.
    ///
    /// # Errors
    /// It does not parse.
    pub fn optional<T: FromSetting>(&self, name: &'static str) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        T::from_setting(text).map(Some).map_err(|reason| self.invalid(name, &reason))
    }

    /// All values of a repeatable setting.
    ///
    /// # Errors
    /// One of them does not parse.
    pub fn list<T: FromSetting>(&self, name: &'static str) -> Result<Vec<T>, ConfigError> {
        let texts = self.entries.get(name).map_or(&[][..], |entry| &entry.texts);
        let parse = |text: &String| T::from_setting(text).map_err(|reason| self.invalid(name, &reason));
        texts.iter().filter(|text| !text.is_empty()).map(parse).collect()
    }

    /// The raw text of a setting, the last one where it is repeatable.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.entries.get(name)?.texts.last().map(String::as_str)
    }

    /// Where the value was read; `None` when unset.
    #[must_use]
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        self.entries.get(name).map(|entry| &entry.origin)
    }

    /// Whether anything but the default set it.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.origin(name).is_some_and(|origin| *origin != Origin::Default)
    }

    /// Whether all values are those of `other`, wherever they were read.
    #[doc(hidden)]
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let texts = |of: &Self| {
            of.entries.iter().map(|(name, entry)| (*name, entry.texts.clone())).collect::<Vec<_>>()
        };
        texts(self) == texts(other)
    }

    /// Names and values that differ from the defaults, for a start-up log line; secrets are masked.
    #[must_use]
    pub fn changed(&self) -> Vec<(&'static str, String)> {
        let shown = |setting: &Setting, entry: &Entry| match setting.secret {
            true => "****".to_owned(),
            false => entry.texts.join(","),
        };
        let settings = self.app.settings.iter().filter(|setting| self.is_set(setting.name));
        settings
            .filter_map(|setting| Some((setting.name, shown(setting, self.entries.get(setting.name)?))))
            .collect()
    }

    /// An error about this setting's value, naming where the value came from.
    #[must_use]
    pub fn invalid(&self, name: &'static str, reason: &str) -> ConfigError {
        let place = match self.origin(name) {
            Some(Origin::File(path, line)) => format!("{}:{line}: {name}", path.display()),
            Some(Origin::Environment(variable)) => format!("environment variable {variable}"),
            Some(Origin::Default | Origin::Flag) | None => format!("--{name}"),
        };
        ConfigError::Value { place, reason: reason.to_owned() }
    }

    /// The error for a required setting without a value.
    #[must_use]
    pub fn missing(&self, name: &'static str) -> ConfigError {
        let variable = self.app.setting(name).map(|setting| self.app.env_name(setting));
        ConfigError::Missing { name, variable: variable.unwrap_or_default() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "variable {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

#[cfg(test)]
mod tests;
