//! What a webhook tells: which repository, which refs. Pure.

use serde::Deserialize;
use serde_json::Value;

use super::Refusal;
use crate::hub::Interest;

/// A delivery, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Names and addresses of the repository.
    names: Vec<String>,
    /// Full names of the refs that moved; empty for other events.
    refs: Vec<String>,
    /// What `HEAD` means there.
    default_branch: Option<String>,
}

/// Whether a delivery is about what is synced here, the less the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Relevance {
    /// The ref may have moved.
    Ours,
    /// Another ref, or another kind of event.
    OtherRef,
    /// Another repository.
    OtherRepository,
}

/// Everything that forges put into a push event, all of it optional.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Wire {
    #[serde(rename = "ref")]
    reference: Option<String>,
    repository: Option<Repository>,
    project: Option<Repository>,
    /// Bitbucket Cloud.
    push: Option<Push>,
    /// Bitbucket Data Center.
    changes: Vec<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Push {
    changes: Vec<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Repository {
    full_name: Option<String>,
    path_with_namespace: Option<String>,
    clone_url: Option<String>,
    ssh_url: Option<String>,
    git_url: Option<String>,
    git_http_url: Option<String>,
    git_ssh_url: Option<String>,
    html_url: Option<String>,
    web_url: Option<String>,
    default_branch: Option<String>,
    slug: Option<String>,
    project: Option<Value>,
}

/// Reads a body: JSON, or a form with JSON in its field `payload`, as GitHub can be told to send.
///
/// # Errors
/// When it is neither.
pub(crate) fn parse(body: &[u8], is_form: bool) -> Result<Event, Refusal> {
    let form = is_form.then(|| {
        url::form_urlencoded::parse(body)
            .find(|(name, _)| name == "payload")
            .map(|(_, value)| value.into_owned())
    });
    // `curl --data` calls everything a form.
    let json = form.as_ref().and_then(|field| field.as_deref()).map_or(body, str::as_bytes);
    let wire: Wire = serde_json::from_slice(json).map_err(|_| Refusal::Malformed)?;
    let mut event = Event { refs: wire.reference.into_iter().map(full).collect(), ..Event::default() };
    for change in wire.push.unwrap_or_default().changes.iter().chain(&wire.changes) {
        event.refs.extend(bitbucket_ref(change));
    }
    for one in wire.repository.into_iter().chain(wire.project) {
        event.default_branch = event.default_branch.or_else(|| one.default_branch.clone());
        event.names.extend(one.into_names());
    }
    Ok(event)
}

impl Repository {
    fn into_names(self) -> impl Iterator<Item = String> {
        let key = self.project.as_ref().and_then(|project| project.get("key")?.as_str());
        // Data Center's clone addresses look like /scm/key/slug.git.
        let server = key.zip(self.slug.as_deref()).map(|(key, slug)| format!("{key}/{slug}"));
        let scm = server.as_ref().map(|name| format!("scm/{name}"));
        [
            self.full_name,
            self.path_with_namespace,
            self.clone_url,
            self.ssh_url,
            self.git_url,
            self.git_http_url,
            self.git_ssh_url,
            self.html_url,
            self.web_url,
            server,
            scm,
        ]
        .into_iter()
        .flatten()
    }
}

fn full(name: String) -> String {
    if name.starts_with("refs/") { name } else { format!("refs/heads/{name}") }
}

fn bitbucket_ref(change: &Value) -> Option<String> {
    if let Some(id) = change.pointer("/ref/id").and_then(Value::as_str) {
        return Some(id.to_owned());
    }
    let side = change.get("new").filter(|new| !new.is_null()).or_else(|| change.get("old"))?;
    let name = side.get("name")?.as_str()?;
    let kind = if side.get("type")?.as_str()? == "tag" { "tags" } else { "heads" };
    Some(format!("refs/{kind}/{name}"))
}

impl Event {
    /// Whether this is about `repository` (an address, or a name as forges write it) and what is followed of it.
    pub(crate) fn relevance(&self, repository: &str, interest: &Interest) -> Relevance {
        let wanted = path_of(repository);
        if !self.names.iter().any(|name| path_of(name) == wanted) {
            return Relevance::OtherRepository;
        }
        let is_ours = |moved: &String| interest.is_about(moved, self.default_branch.as_deref());
        if self.refs.iter().any(is_ours) { Relevance::Ours } else { Relevance::OtherRef }
    }
}

/// `https://host:1/Org/x.git`, `git@host:org/x` and `org/x` are the same repository: the host may
/// have one name inside the cluster and another one outside.
pub(super) fn path_of(address: &str) -> String {
    let path = match address.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => match address.split_once(':') {
            Some((host, path)) if !host.contains('/') => path,
            _ => address,
        },
    };
    let path = path.trim_matches('/');
    path.strip_suffix(".git").unwrap_or(path).to_lowercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GITHUB: &str = r#"{"ref":"refs/heads/main","before":"0","after":"1","repository":{"id":1,"full_name":"Org/site",
        "default_branch":"main","clone_url":"https://github.com/Org/site.git","ssh_url":"git@github.com:Org/site.git","pushed_at":1}}"#;

    fn relevance(body: &str, repository: &str, reference: &str) -> Relevance {
        parse(body.as_bytes(), false).unwrap().relevance(repository, &name(reference))
    }

    fn name(reference: &str) -> Interest {
        Interest::One(crate::protocol::Follow::Name(reference.to_owned()))
    }

    #[test]
    fn addresses_of_one_repository_are_the_same() {
        for address in [
            "https://github.com/org/site.git",
            "https://user@github.com/org/site/",
            "git@github.com:org/site.git",
            "ssh://git@github.com:22/org/site",
            "http://gitea.forge.svc:3000/org/site.git",
            "org/site",
        ] {
            assert_eq!(relevance(GITHUB, address, "main"), Relevance::Ours, "{address}");
        }
        for address in ["https://github.com/org/site2", "git@github.com:other/site", "site", ""] {
            assert_eq!(relevance(GITHUB, address, "main"), Relevance::OtherRepository, "{address}");
        }
    }

    #[test]
    fn refs() {
        for (reference, wanted) in [
            ("HEAD", Relevance::Ours),
            ("refs/heads/main", Relevance::Ours),
            ("refs/tags/main", Relevance::OtherRef),
            ("dev", Relevance::OtherRef),
            ("1111111111111111111111111111111111111111", Relevance::OtherRef),
        ] {
            assert_eq!(relevance(GITHUB, "org/site", reference), wanted, "{reference}");
        }
        let tag = GITHUB.replace("refs/heads/main", "refs/tags/v1");
        assert_eq!(relevance(&tag, "org/site", "v1"), Relevance::Ours);
        assert_eq!(relevance(&tag, "org/site", "HEAD"), Relevance::OtherRef);
    }

    #[test]
    fn other_forges() {
        let gitlab = r#"{"object_kind":"push","ref":"refs/heads/main","project":{"path_with_namespace":"org/site",
            "git_http_url":"http://h/org/site.git","default_branch":"main"},"repository":{"name":"Site"}}"#;
        assert_eq!(relevance(gitlab, "http://h/org/site.git", "HEAD"), Relevance::Ours);
        let cloud = r#"{"push":{"changes":[{"new":{"type":"branch","name":"main"},"old":null},
            {"new":null,"old":{"type":"tag","name":"v1"}}]},"repository":{"full_name":"org/site"}}"#;
        for reference in ["main", "v1", "HEAD"] {
            assert_eq!(relevance(cloud, "https://bitbucket.org/org/site", reference), Relevance::Ours);
        }
        let server = r#"{"eventKey":"repo:refs_changed","changes":[{"ref":{"id":"refs/heads/main"}}],
            "repository":{"slug":"site","project":{"key":"ORG"}}}"#;
        assert_eq!(relevance(server, "https://h/scm/org/site.git", "main"), Relevance::Ours);
        assert_eq!(relevance(server, "ssh://git@h:7999/org/site.git", "main"), Relevance::Ours);
    }

    #[test]
    fn pings_and_forms() {
        let ping = r#"{"zen":"x","hook_id":1,"repository":{"full_name":"org/site"}}"#;
        assert_eq!(relevance(ping, "org/site", "HEAD"), Relevance::OtherRef);
        let form: String =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", GITHUB).finish();
        assert_eq!(
            parse(form.as_bytes(), true).unwrap().relevance("org/site", &name("main")),
            Relevance::Ours
        );
        assert_eq!(parse(b"a=b", true), Err(Refusal::Malformed));
        for body in ["", "{\"ref\":1}", "{\"repository\":3}"] {
            assert_eq!(parse(body.as_bytes(), false), Err(Refusal::Malformed), "{body}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..200), cut in 0..GITHUB.len()) {
            let _ = parse(&body, false);
            let _ = parse(&body, true);
            let _ = parse(&GITHUB.as_bytes()[..cut], false);
        }
    }
}
