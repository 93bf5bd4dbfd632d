//! What git's settings (`--git-config`) mean here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::auth::git_config::GitConfig;
use crate::config::Config;
use crate::transport::HttpOptions;

/// Settings that only tune a git program, or repeat what is done anyway. Leaving them out of account
/// changes nothing that anybody can see.
const WITHOUT_EFFECT: &[&str] = &[
    "core.bigfilethreshold",
    "core.checkstat",
    "core.compression",
    "core.fsync",
    "core.fsyncmethod",
    "core.loosecompression",
    "core.multipackindex",
    "core.packedgitlimit",
    "core.packedgitwindowsize",
    "core.preloadindex",
    "core.quotepath",
    "core.trustctime",
    "credential.usehttppath",
    "http.emptyauth",
    "http.maxrequests",
    "http.minsessions",
    "http.postbuffer",
    "http.sslbackend",
    "http.maxrequestbuffer",
    "http.sslkey",
    "http.version",
    "init.defaultbranch",
    "protocol.version",
    "safe.directory",
    "submodule.fetchjobs",
    "submodule.recurse",
];
/// A longer `http.lowSpeedTime` is no limit.
const MAX_LOW_SPEED_TIME: u64 = 86_400;
/// Sections of which the same is true.
const SECTIONS: &[&str] = &["advice.", "color.", "fetch.", "gc.", "index.", "maintenance.", "pack.", "user."];

impl Config {
    /// Takes in those of git's settings that mean something here; gives the keys of the others.
    ///
    /// # Errors
    /// A value that isn't what its key takes.
    #[doc(hidden)]
    pub fn apply_git_settings(&mut self) -> Result<Vec<String>, String> {
        self.transport = self.git.http_options(None)?;
        if self.credentials.cookie_file.is_none() {
            self.credentials.cookie_file = self.git.value("http.cookiefile").map(Into::into);
        }
        for key in ["core.symlinks", "core.filemode"] {
            if let Some(Err(reason)) = self.git.boolean(key) {
                return Err(format!("--git-config: {reason}"));
            }
        }
        let helpers = helpers(&self.git);
        self.credentials.stores.extend(helpers.stores);
        for (key, value) in self.git.pairs() {
            let choices: &[&str] = match key.as_str() {
                "core.eol" => &["lf", "crlf", "native"],
                "core.autocrlf" => &["true", "false", "input"],
                key if key.starts_with("protocol.") && key.ends_with(".allow") => {
                    &["always", "never", "user"]
                }
                _ => continue,
            };
            if !choices.contains(&value.as_str()) {
                return Err(format!("--git-config: {key} is none of {}, but `{value}`", choices.join(", ")));
            }
        }
        let keys = self.git.pairs().iter().map(|(key, _)| key.as_str());
        let unknown = keys.filter(|key| !is_known(key)).map(str::to_owned);
        Ok(unknown.chain(helpers.others).collect())
    }

    /// Whether a protocol may be used: by the configured repository, or by a submodule, whose address
    /// its author chose.
    pub(crate) fn allows(&self, protocol: &str, is_submodule: bool) -> bool {
        let key = format!("protocol.{protocol}.allow");
        match self.git.value(&key).or_else(|| self.git.value("protocol.allow")) {
            Some("never") => false,
            Some("always") => true,
            Some(_) => !is_submodule,
            None => true,
        }
    }

    /// Whether a repository from the network may have submodules on this machine's paths.
    pub(crate) fn allows_local_submodules(&self) -> bool {
        self.git.value("protocol.file.allow") == Some("always")
    }

    /// Those settings that change what a checkout holds, for the repository's own configuration.
    pub(crate) fn checkout_settings(&self) -> [(&'static str, Option<&str>); 5] {
        let [crlf, eol, symlinks] =
            ["core.autocrlf", "core.eol", "core.symlinks"].map(|key| (key, self.git.value(key)));
        // A new repository says true.
        let filemode = ("core.filemode", Some(self.git.value("core.filemode").unwrap_or("true")));
        [crlf, eol, symlinks, filemode, self.lfs_setting()]
    }

    /// Whether LFS pointers become what they stand for, for a repository's own configuration.
    pub(crate) fn lfs_setting(&self) -> (&'static str, Option<&'static str>) {
        (crate::repo::lfs::SETTING, self.lfs.then_some("true"))
    }

    /// The settings in the form in which a git that a hook runs takes them.
    pub(crate) fn hook_environment(&self) -> Vec<(String, String)> {
        let owners = ("safe.directory".to_owned(), "*".to_owned());
        let pairs: Vec<_> = std::iter::once(&owners).chain(self.git.pairs()).collect();
        let mut environment = vec![
            ("GIT_CONFIG_NOSYSTEM".to_owned(), "1".to_owned()),
            ("GIT_CONFIG_COUNT".to_owned(), pairs.len().to_string()),
        ];
        for (nth, (key, value)) in pairs.into_iter().enumerate() {
            environment.push((format!("GIT_CONFIG_KEY_{nth}"), key.clone()));
            environment.push((format!("GIT_CONFIG_VALUE_{nth}"), value.clone()));
        }
        environment
    }
}

fn is_known(key: &str) -> bool {
    let whole_http = http_key(key).map(|(_, name)| format!("http.{name}"));
    let key = whole_http.as_deref().unwrap_or(key);
    WITHOUT_EFFECT.contains(&key)
        || SECTIONS.iter().any(|section| key.starts_with(section))
        || matches!(
            key,
            "core.autocrlf"
                | "core.eol"
                | "core.filemode"
                | "core.symlinks"
                | "credential.helper"
                | "http.cookiefile"
                | "http.extraheader"
                | "http.followredirects"
                | "http.lowspeedlimit"
                | "http.lowspeedtime"
                | "http.proxy"
                | "http.sslcainfo"
                | "http.sslcert"
                | "http.sslverify"
                | "http.useragent"
                | "lfs.concurrenttransfers"
                | "lfs.url"
                | "remote.origin.lfsurl"
        )
        || (key.starts_with("protocol.") && key.ends_with(".allow"))
        // Nothing is pushed.
        || (key.starts_with("url.") && (key.ends_with(".insteadof") || key.ends_with(".pushinsteadof")))
}

/// What `credential.helper` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Helpers {
    /// Files of `store`.
    stores: Vec<PathBuf>,
    /// Those that would need another program.
    others: Vec<String>,
}

/// As in git, an empty value takes back those before it. `cache` needs nothing: what is known stays in
/// memory anyway.
fn helpers(git: &GitConfig) -> Helpers {
    let mut found = Helpers::default();
    for (_, value) in git.pairs().iter().filter(|(key, _)| key == "credential.helper") {
        let mut words = value.split_ascii_whitespace();
        match words.next() {
            None => found = Helpers::default(),
            Some("cache") => {}
            Some("store") => match store_files(words) {
                Some(files) => found.stores.extend(files),
                None => found.others.push(format!("credential.helper ({value})")),
            },
            // Arguments may be secrets.
            Some(name) => found.others.push(format!("credential.helper ({name})")),
        }
    }
    found
}

/// The files of `store`: the one named, else git's usual ones.
fn store_files<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Vec<PathBuf>> {
    let home = || std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let expand = |path: &str| match path.strip_prefix("~/") {
        Some(rest) => home().map(|home| home.join(rest)),
        None => Some(PathBuf::from(path)),
    };
    let file = match words.next() {
        Some("--file") => expand(words.next()?)?,
        Some(word) => expand(word.strip_prefix("--file=")?)?,
        None => {
            let xdg = std::env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
            let xdg = xdg.or_else(|| home().map(|home| home.join(".config")));
            let usual = home().map(|home| home.join(".git-credentials"));
            // The last one that fits counts, and git asks the first of these first.
            return Some(xdg.map(|path| path.join("git/credentials")).into_iter().chain(usual).collect());
        }
    };
    words.next().is_none().then(|| vec![file])
}

/// The URL a `http.<url>.<name>` is for, and the name.
fn http_key(key: &str) -> Option<(Option<&str>, &str)> {
    let rest = key.strip_prefix("http.")?;
    Some(match rest.rsplit_once('.') {
        Some((url, name)) => (Some(url), name),
        None => (None, rest),
    })
}

impl GitConfig {
    /// The HTTP settings for a URL; for `None` only those that are for all.
    ///
    /// As in git, of two values the one whose URL fits closer counts, and of equals the last; headers
    /// gather, and an empty one removes those before it.
    ///
    /// # Errors
    /// A value that isn't what its key takes.
    #[doc(hidden)]
    pub fn http_options(&self, url: Option<&Url>) -> Result<HttpOptions, String> {
        let mut options = HttpOptions::default();
        let mut closest: HashMap<&str, (usize, usize)> = HashMap::new();
        let (mut chain, mut key_file) = (None, None);
        let (mut limit, mut time) = (0, 0);
        for (key, value) in self.pairs() {
            let Some((pattern, name)) = http_key(key) else { continue };
            let fit = match (pattern, url) {
                (None, _) => Some((0, 0)),
                (Some(pattern), Some(url)) => fit(pattern, url),
                (Some(_), None) => None,
            };
            let Some(fit) = fit.filter(|fit| closest.get(name).is_none_or(|best| fit >= best)) else {
                continue;
            };
            closest.insert(name, fit);
            match name {
                "extraheader" if value.is_empty() => options.headers.clear(),
                "extraheader" => {
                    let header =
                        value.split_once(':').map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned()));
                    options.headers.extend(header);
                }
                "sslcainfo" => options.tls.ca_file = Some(value.into()),
                "sslcert" => chain = Some(value),
                "sslkey" => key_file = Some(value),
                "sslverify" => options.tls.trust_anyone = !truth(key, value)?,
                "proxy" => options.proxy = Some(value.clone()),
                "lowspeedlimit" => limit = number(key, value)?,
                "lowspeedtime" => time = number(key, value)?,
                "useragent" => options.user_agent = Some(value.clone()),
                "followredirects" if value == "initial" => options.refuse_redirects = false,
                "followredirects" => options.refuse_redirects = !truth(key, value)?,
                _ => {}
            }
        }
        options.low_speed =
            (limit > 0 && time > 0).then(|| (limit, Duration::from_secs(time.min(MAX_LOW_SPEED_TIME))));
        options.tls.identity = chain.map(|chain| (chain.into(), key_file.unwrap_or(chain).into()));
        Ok(options)
    }
}

fn number(key: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("--git-config: {key} takes a whole number, not `{value}`"))
}

fn truth(key: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" | "" => Ok(false),
        _ => Err(format!("--git-config: {key} takes true or false, not `{value}`")),
    }
}

/// How closely a URL fits a pattern, if it does: by its host, then by its path.
fn fit(pattern: &str, url: &Url) -> Option<(usize, usize)> {
    let pattern = Url::parse(pattern).ok()?;
    let same = pattern.scheme() == url.scheme()
        && pattern.port_or_known_default() == url.port_or_known_default()
        && (pattern.username().is_empty() || pattern.username() == url.username());
    let (wanted, host) = (pattern.host_str()?, url.host_str()?);
    let labels = wanted.split('.').count() == host.split('.').count()
        && wanted.split('.').zip(host.split('.')).all(|(w, h)| w == h || w == "*" || w == "%2A");
    let path = pattern.path().trim_end_matches('/');
    let below = url.path().strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (same && labels && below).then(|| (wanted.replace("%2A", "").replace('*', "").len(), path.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::git_config::parse;

    fn config(text: &str) -> Config {
        let mut config = Config::new("https://h/x", "/r");
        config.git.add(parse(text).unwrap());
        config
    }

    fn options(text: &str, url: &str) -> HttpOptions {
        config(text).git.http_options(Some(&Url::parse(url).unwrap())).unwrap()
    }

    #[test]
    fn the_closest_url_counts() {
        let text = r#"http.sslVerify:false,"http.https://a.org/.sslVerify":true,"http.https://*.a.org.proxy":"http://p:1","http.https://a.org/deep.userAgent":x,http.userAgent:y"#;
        assert!(!options(text, "https://a.org/x").tls.trust_anyone);
        assert!(options(text, "https://b.org/x").tls.trust_anyone);
        assert!(options(text, "http://a.org/x").tls.trust_anyone);
        assert_eq!(options(text, "https://b.a.org/x").proxy.as_deref(), Some("http://p:1"));
        assert_eq!(options(text, "https://a.org/x").proxy, None);
        assert_eq!(options(text, "https://a.org/deep/x").user_agent.as_deref(), Some("x"));
        assert_eq!(options(text, "https://a.org/deeper").user_agent.as_deref(), Some("y"));
    }

    #[test]
    fn headers_gather_where_they_belong() {
        let text = r#"http.extraHeader:"A: 1",http.extraHeader:"B: 2","http.https://h/.extraHeader":"C: 3""#;
        let names = |url| options(text, url).headers.into_iter().map(|(name, _)| name).collect::<String>();
        assert_eq!((names("https://h/x"), names("https://i/x")), ("ABC".to_owned(), "AB".to_owned()));
    }

    #[test]
    fn unknown_keys_are_named_and_bad_values_refused() {
        let mut config = config(
            r#"core.sshCommand:ssh,http.postBuffer:1,"http.https://h/.sslVerify":no,gc.auto:0,credential.helper:x"#,
        );
        assert_eq!(config.apply_git_settings().unwrap(), ["core.sshcommand", "credential.helper (x)"]);
        for text in ["http.sslVerify:perhaps", "core.eol:cr", "protocol.file.allow:maybe"] {
            assert!(self::config(text).apply_git_settings().is_err(), "{text}");
        }
    }

    #[test]
    fn protocols() {
        let plain = config("");
        assert!(
            plain.allows("file", false) && plain.allows("https", true) && !plain.allows_local_submodules()
        );
        let strict = config("protocol.allow:never,protocol.https.allow:always,protocol.ssh.allow:user");
        assert!(!strict.allows("http", false) && strict.allows("https", true));
        assert!(strict.allows("ssh", false) && !strict.allows("ssh", true));
    }

    #[test]
    fn credential_helpers() {
        let of = |values: &[&str]| {
            let mut git = GitConfig::default();
            git.add(values.iter().map(|v| ("credential.helper".to_owned(), (*v).to_owned())).collect());
            helpers(&git)
        };
        let found =
            of(&["cache --timeout=5", "store --file=/a", "store --file /b", "!echo password=x", "store -x"]);
        assert_eq!(found.stores, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(found.others, ["credential.helper (!echo)", "credential.helper (store -x)"]);
        assert_eq!(of(&["store --file=/a", "", "store --file=/b"]).stores, [PathBuf::from("/b")]);
        assert_eq!(of(&["manager", ""]), Helpers::default());
    }

    #[test]
    fn low_speed_needs_both() {
        let of = |pairs: &[(&str, &str)]| {
            let mut git = GitConfig::default();
            git.add(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
            git.http_options(None).map(|options| options.low_speed)
        };
        let both = [("http.lowspeedlimit", "1000"), ("http.lowspeedtime", "30")];
        assert_eq!(of(&both), Ok(Some((1_000, Duration::from_secs(30)))));
        assert_eq!(of(&both[..1]), Ok(None));
        assert!(of(&[("http.lowspeedlimit", "fast")]).is_err());
    }
}
