//! Which of a remote's refs are meant: one by its name, the tag of the newest version, or all that fit
//! patterns. And the folders that many refs go to. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use semver::{Version, VersionReq};
use sha1::{Digest as _, Sha1};

use super::{ObjectId, RemoteRef, hex, ref_prefixes, resolve};

/// Longest folder name made from a ref.
const MAX_FOLDER: usize = 100;

/// Which one ref is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follow {
    /// Branch, tag, full ref name, or `HEAD`.
    Name(String),
    /// The tag of the newest version in a range.
    Newest(VersionReq),
}

impl Follow {
    /// What to ask the remote for: full names, and beginnings with a `*` behind.
    #[must_use]
    pub fn asks(&self) -> Vec<String> {
        match self {
            Self::Name(name) if name.starts_with("refs/heads/") => vec![name.clone()],
            Self::Name(name) => ref_prefixes(name),
            Self::Newest(_) => vec!["refs/tags/*".to_owned()],
        }
    }

    /// The ref that is meant among those the remote has.
    #[must_use]
    pub fn choose<'a>(&self, refs: &'a [RemoteRef]) -> Option<&'a RemoteRef> {
        match self {
            Self::Name(name) => resolve(name, refs),
            Self::Newest(range) => refs
                .iter()
                .filter_map(|one| Some((version(&one.name)?, one)))
                .filter(|(version, _)| range.matches(version))
                .max_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.name.cmp(&a.1.name)))
                .map(|(_, one)| one),
        }
    }

    /// Whether it can mean another commit when the ref called `moved`, a full name, moves.
    #[must_use]
    pub fn is_about(&self, moved: &str, default_branch: Option<&str>) -> bool {
        match self {
            Self::Name(name) if name == "HEAD" => {
                default_branch.is_none_or(|branch| moved.strip_prefix("refs/heads/") == Some(branch))
            }
            Self::Name(full) if full.starts_with("refs/") => moved == full,
            Self::Name(name) => {
                ["refs/heads/", "refs/tags/"].iter().any(|kind| moved.strip_prefix(kind) == Some(name))
            }
            Self::Newest(range) => version(moved).is_some_and(|version| range.matches(&version)),
        }
    }
}

impl fmt::Display for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Newest(range) => write!(f, "tags {range}"),
        }
    }
}

/// `refs/tags/v1.2.3` and `refs/tags/1.2.3`; no other tag is a version.
fn version(name: &str) -> Option<Version> {
    let tag = name.strip_prefix("refs/tags/")?;
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

/// A pattern of ref names, in which `*` stands for anything, slashes too, as in a refspec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// A pattern that doesn't begin with `refs/` is one of branches.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(if text.starts_with("refs/") { text.to_owned() } else { format!("refs/heads/{text}") })
    }

    /// What to ask the remote for.
    #[must_use]
    pub fn asks(&self) -> String {
        self.0.split_once('*').map_or_else(|| self.0.clone(), |(start, _)| format!("{start}*"))
    }

    /// Whether a full name fits.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|start| name.strip_prefix(start)) else { return false };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        // The first place for each part leaves the most for those behind it; the last one is the end.
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        false
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The refs that fit one of the patterns, by name.
#[must_use]
pub fn fitting(globs: &[Glob], refs: &[RemoteRef]) -> BTreeMap<String, ObjectId> {
    let fits = |one: &&RemoteRef| globs.iter().any(|glob| glob.fits(&one.name));
    refs.iter().filter(fits).map(|one| (one.name.clone(), one.target())).collect()
}

/// A folder for each ref. One that has a folder in `old` keeps it; a new one gets its own name, made safe,
/// and where that is taken a hash behind it.
#[must_use]
pub fn folders<'a>(
    names: impl IntoIterator<Item = &'a String>,
    old: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let names: BTreeSet<&String> = names.into_iter().collect();
    let mut folders: BTreeMap<String, String> =
        names.iter().filter_map(|name| Some(((*name).clone(), old.get(*name)?.clone()))).collect();
    let mut taken: BTreeSet<String> = folders.values().map(|folder| folder.to_ascii_lowercase()).collect();
    // Those that can be called what they are come first.
    let (plain, changed): (Vec<_>, Vec<_>) = names
        .into_iter()
        .filter(|name| !old.contains_key(*name))
        .partition(|name| safe(short(name)) == short(name));
    for name in plain.into_iter().chain(changed) {
        let mut folder = safe(short(name));
        while !taken.insert(folder.to_ascii_lowercase()) {
            folder = format!("{folder}-{}", hex(&Sha1::digest(name.as_bytes())[..4]));
        }
        folders.insert(name.clone(), folder);
    }
    folders
}

fn short(name: &str) -> &str {
    ["refs/heads/", "refs/tags/", "refs/"].iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name)
}

/// Letters, digits, `.`, `_` and `-`; no dot or dash in front, and not too long.
fn safe(name: &str) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let text: String = name.chars().map(good).take(MAX_FOLDER).collect();
    let text = text.trim_start_matches(['.', '-']);
    if text.is_empty() { "ref".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refs(names: &[&str]) -> Vec<RemoteRef> {
        let id = "1".repeat(40).parse().unwrap();
        let one = |name: &&str| RemoteRef { name: (*name).to_owned(), id, peeled: None, symref_target: None };
        names.iter().map(one).collect()
    }

    fn newest(range: &str, tags: &[&str]) -> Option<String> {
        let follow = Follow::Newest(VersionReq::parse(range).unwrap());
        let tags: Vec<String> = tags.iter().map(|tag| format!("refs/tags/{tag}")).collect();
        let refs = refs(&tags.iter().map(String::as_str).collect::<Vec<_>>());
        follow.choose(&refs).map(|one| one.name["refs/tags/".len()..].to_owned())
    }

    #[test]
    fn the_newest_version_in_the_range() {
        let tags = ["v1.2.3", "v1.10.0", "v2.0.0", "1.3.0", "v1.11.0-rc.1", "v1", "nightly", "vv1.99.0"];
        assert_eq!(newest("^1.2", &tags).as_deref(), Some("v1.10.0"));
        assert_eq!(newest(">=1.0, <1.5", &tags).as_deref(), Some("1.3.0"));
        assert_eq!(newest("*", &tags).as_deref(), Some("v2.0.0"));
        assert_eq!(newest("^3", &tags), None);
        assert_eq!(newest("1.2", &["v1.2.3", "1.2.3"]).as_deref(), Some("1.2.3"), "always the same one");
        let follow = Follow::Newest(VersionReq::parse("^1").unwrap());
        assert!(follow.is_about("refs/tags/v1.9.0", None));
        assert!(!follow.is_about("refs/tags/v2.0.0", None) && !follow.is_about("refs/heads/v1.9.0", None));
    }

    #[test]
    fn patterns() {
        let fits = |pattern: &str, name: &str| Glob::new(pattern).fits(name);
        assert!(fits("preview/*", "refs/heads/preview/a/b"));
        assert!(!fits("preview/*", "refs/heads/preview"));
        assert!(fits("refs/heads/*-x", "refs/heads/a-x-x") && !fits("refs/heads/*-x", "refs/heads/x"));
        assert!(fits("a*b*c", "refs/heads/abbc") && !fits("a*b*c", "refs/heads/acb"));
        assert!(fits("main", "refs/heads/main") && !fits("main", "refs/heads/main2"));
        assert!(!fits("ab*ba", "refs/heads/aba"), "the ends don't overlap");
        assert_eq!(Glob::new("a*b*c").asks(), "refs/heads/a*");
        assert_eq!(Glob::new("main").asks(), "refs/heads/main");
    }

    #[test]
    fn folders_are_safe_and_stay() {
        let names = |of: &[&str]| of.iter().map(|name| format!("refs/heads/{name}")).collect::<Vec<_>>();
        let first = names(&["feature/a", "../..", ".git", "ä/b"]);
        let old = folders(&first, &BTreeMap::new());
        assert_eq!(old["refs/heads/feature/a"], "feature-a");
        assert_eq!(old["refs/heads/.git"], "git");
        assert_eq!(old["refs/heads/../.."], "ref");
        let both = names(&["feature/a", "feature-a", "Feature-A"]);
        let fresh = folders(&both, &BTreeMap::new());
        assert_eq!(fresh["refs/heads/Feature-A"], "Feature-A");
        assert!(fresh["refs/heads/feature-a"].starts_with("feature-a-"), "file systems may ignore case");
        let kept = folders(&both, &old);
        assert_eq!(kept["refs/heads/feature/a"], "feature-a", "a folder stays with its ref");
        assert!(kept["refs/heads/feature-a"].starts_with("feature-a-"));
    }

    proptest! {
        #[test]
        fn a_pattern_is_like_a_regular_expression(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            let expression = format!("^{}$", pattern.replace('*', ".*"));
            let wanted = simple(&pattern, &name);
            prop_assert_eq!(Glob(pattern.clone()).fits(&name), wanted, "{}", expression);
        }

        #[test]
        fn folders_differ(names in prop::collection::btree_set("[a-cA-C/.-]{1,4}", 0..30)) {
            let names: Vec<String> = names.into_iter().map(|name| format!("refs/heads/{name}")).collect();
            let folders = folders(&names, &BTreeMap::new());
            let different: BTreeSet<String> = folders.values().map(|folder| folder.to_ascii_lowercase()).collect();
            prop_assert_eq!(different.len(), names.len());
            prop_assert!(folders.values().all(|folder| !folder.starts_with('.') && !folder.contains('/')));
        }
    }

    fn simple(pattern: &str, name: &str) -> bool {
        match pattern.chars().next() {
            None => name.is_empty(),
            Some('*') => (0..=name.len()).any(|at| simple(&pattern[1..], &name[at..])),
            Some(c) => name.starts_with(c) && simple(&pattern[1..], &name[1..]),
        }
    }
}
