//! Which LFS server belongs to a repository (git-lfs `docs/api/server-discovery.md`). Pure.

use std::path::PathBuf;

use url::Url;

use crate::auth::git_config::GitConfig;
use crate::ssh::Target;
use crate::transport::RemoteUrl;

/// A larger `.lfsconfig` is passed over.
pub(crate) const MAX_FILE: usize = 1 << 20;

/// Where to ask for objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A server; user and password as they stood in the address.
    Http(Url, Option<(String, String)>),
    /// The server is named by `git-lfs-authenticate` on this host.
    Ssh(Target),
    /// A repository on this machine.
    Local(PathBuf),
}

/// What `.lfsconfig` may say about the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LfsConfig {
    url: Option<String>,
    remote_url: Option<String>,
}

impl LfsConfig {
    /// Reads a file in git's configuration format; lines that are none are passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut found = Self::default();
        let mut section = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix('[') {
                section = rest.split(']').next().map(section_name).unwrap_or_default();
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            match (section.as_str(), key.trim().to_ascii_lowercase().as_str()) {
                ("lfs", "url") => found.url = Some(plain(value)),
                ("remote.origin", "lfsurl") => found.remote_url = Some(plain(value)),
                _ => {}
            }
        }
        found
    }
}

/// `remote "origin"` as `remote.origin`.
fn section_name(head: &str) -> String {
    match head.split_once('"') {
        Some((name, rest)) => {
            let inner = rest.trim_end().trim_end_matches('"').replace("\\\"", "\"").replace("\\\\", "\\");
            format!("{}.{inner}", name.trim().to_ascii_lowercase())
        }
        None => head.trim().to_ascii_lowercase(),
    }
}

/// A value without quotes, escapes and a comment behind it.
fn plain(value: &str) -> String {
    let (mut out, mut quoted, mut escaped) = (String::new(), false, false);
    for c in value.trim().chars() {
        match c {
            _ if escaped => {
                out.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '#' | ';' if !quoted => break,
            _ => out.push(c),
        }
    }
    out.trim_end().to_owned()
}

/// The server for `remote`. What is set for git (`lfs.url`, `remote.origin.lfsurl`) wins over `.lfsconfig`.
///
/// # Errors
/// With the reason, when the address can't be used or leads to this machine's files on another's word.
pub(super) fn endpoint(git: &GitConfig, file: &LfsConfig, remote: &str) -> Result<Endpoint, String> {
    let own = git.value("lfs.url").map(str::to_owned);
    let own_remote = git.value("remote.origin.lfsurl").map(str::to_owned);
    let is_own = own.is_some() || (file.url.is_none() && own_remote.is_some());
    let named = own.or_else(|| file.url.clone()).or(own_remote).or_else(|| file.remote_url.clone());
    let Some(address) = named.filter(|address| !address.is_empty()) else {
        return beside(&parse(git, remote)?, remote);
    };
    let shown = crate::redact::url(&address);
    match parse(git, &address)? {
        RemoteUrl::Http(url) => Ok(Endpoint::Http(url, login(&address))),
        RemoteUrl::Ssh(target) => Ok(Endpoint::Ssh(target)),
        RemoteUrl::Local(path) => {
            let is_local = matches!(parse(git, remote), Ok(RemoteUrl::Local(_)));
            // A repository from elsewhere must not make this process read local paths.
            match is_own || is_local {
                true => Ok(Endpoint::Local(path)),
                false => Err(format!("its .lfsconfig names {shown}, a path on this machine")),
            }
        }
        RemoteUrl::Git { .. } => Err(format!("{shown}: no LFS server speaks git://")),
    }
}

fn parse(git: &GitConfig, address: &str) -> Result<RemoteUrl, String> {
    RemoteUrl::parse(&git.rewrite(address)).map_err(|error| error.to_string())
}

/// Without a setting, the server is found beside the repository.
fn beside(remote: &RemoteUrl, address: &str) -> Result<Endpoint, String> {
    match remote {
        RemoteUrl::Http(url) => Ok(Endpoint::Http(info_lfs(url), None)),
        RemoteUrl::Ssh(target) => Ok(Endpoint::Ssh(target.clone())),
        RemoteUrl::Local(path) => Ok(Endpoint::Local(path.clone())),
        RemoteUrl::Git { .. } => Err(format!(
            "{} says nothing about an LFS server; name it with --git-config=lfs.url:https://…",
            crate::redact::url(address)
        )),
    }
}

/// `…/x` and `…/x.git` become `…/x.git/info/lfs`.
pub(super) fn info_lfs(url: &Url) -> Url {
    let path = url.path().trim_end_matches('/');
    let suffix = if path.ends_with(".git") { "" } else { ".git" };
    let mut server = url.clone();
    server.set_path(&format!("{path}{suffix}/info/lfs"));
    server.set_query(None);
    server
}

/// The server that an SSH address stands for when the host itself names none.
pub(super) fn behind_ssh(target: &Target) -> Result<Url, String> {
    let path = String::from_utf8_lossy(&target.path);
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    let text = format!("https://{host}/{}", path.trim_start_matches('/'));
    Url::parse(&text).map(|url| info_lfs(&url)).map_err(|_| format!("{text} is no address of an LFS server"))
}

/// User and password of an address.
fn login(address: &str) -> Option<(String, String)> {
    let url = Url::parse(address).ok()?;
    let password = url.password()?;
    Some((crate::redact::percent_decode(url.username()), crate::redact::percent_decode(password)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(settings: &[(&str, &str)], file: &str, remote: &str) -> Result<String, String> {
        let mut git = GitConfig::default();
        git.add(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
        endpoint(&git, &LfsConfig::parse(file), remote).map(|found| match found {
            Endpoint::Http(url, _) => url.to_string(),
            Endpoint::Ssh(target) => target.to_string(),
            Endpoint::Local(path) => path.display().to_string(),
        })
    }

    #[test]
    fn who_names_the_server() {
        let remote = "https://u:p@h/a/b";
        let file =
            "# x\n[lfs]\n\turl = \"https://file/x\" ; here\n[remote \"origin\"]\n lfsurl=https://file/r\n";
        let second = "[remote \"origin\"]\n lfsurl = https://file/r\n[lfs \"https://z\"]\nurl = no\n";
        let (own, own_remote) = (("lfs.url", "https://own/x"), ("remote.origin.lfsurl", "https://own/r"));
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
        let cases: [Case<'_>; 5] = [
            (&[], "", "https://h/a/b.git/info/lfs"),
            (&[], second, "https://file/r"),
            (&[own_remote], second, "https://own/r"),
            (&[own_remote], file, "https://file/x"),
            (&[own, own_remote], file, "https://own/x"),
        ];
        for (settings, file, expected) in cases {
            assert_eq!(of(settings, file, remote).as_deref(), Ok(expected), "{settings:?} {file}");
        }
        assert_eq!(of(&[], "", "https://h/b.git/").as_deref(), Ok("https://h/b.git/info/lfs"));
        assert_eq!(of(&[], "", "/srv/x").as_deref(), Ok("/srv/x"));
        assert!(of(&[], "", "git://h/x").unwrap_err().contains("lfs.url"));
        assert!(of(&[], "[lfs]\nurl = /etc", remote).unwrap_err().contains("this machine"));
        assert!(of(&[], "[lfs]\nurl = ftp://u:S3CR3T@h", remote).is_err_and(|e| !e.contains("S3CR3T")));
        assert_eq!(of(&[("lfs.url", "/srv/x")], "", remote).as_deref(), Ok("/srv/x"));
        assert_eq!(of(&[], "", "git@h:a/b.git").as_deref(), Ok("git@h:a/b.git"));
        let target = Target::parse("git@h:a/b").unwrap();
        assert_eq!(behind_ssh(&target).unwrap().as_str(), "https://h/a/b.git/info/lfs");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "[\\[\\]a-z\"= \\\\\n.;#]{0,80}", remote in ".{0,30}") {
            let _ = of(&[], &text, &remote);
        }
    }
}
