//! Several sources in one process: the binary against real pushes through git http-backend.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/pushed.rs"]
mod pushed;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pushed::{SECRET, TOKEN, hmac, post};
use support::{BINARY, Http, Running, Site, eventually, finish, free_port, get, git, run, text};

/// A volume that one process fills from several sources.
struct Volume {
    dir: tempfile::TempDir,
    port: u16,
    process: Option<Running>,
}

impl Volume {
    /// Starts with this list; sources poll once an hour unless it says otherwise.
    fn start(sources: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("token"), format!("{TOKEN}\n")).unwrap();
        fs::write(dir.path().join("secret"), format!("{SECRET}\n")).unwrap();
        let mut volume = Self { dir, port: free_port(), process: None };
        volume.write(sources);
        volume.restart();
        volume
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("sources.yaml")
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    /// As an editor or a ConfigMap does it: the file is replaced.
    fn write(&self, sources: &str) {
        let new = self.dir.path().join("new.yaml");
        fs::write(&new, sources).unwrap();
        fs::rename(&new, self.file()).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("--sources").arg(self.file()).arg(format!("--root={}", self.root().display()));
        command.args(["--period=1h", "--init-period=50ms"]);
        command
    }

    fn restart(&mut self) {
        let mut command = self.command();
        let dir = self.dir.path().display();
        command.arg(format!("--http-bind=127.0.0.1:{}", self.port)).args(["--http-metrics", "--http-events"]);
        command.arg(format!("--api-token-file={dir}/token"));
        command.arg(format!("--push-webhook-secret-file={dir}/secret"));
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.process = Some(Running(child));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn ready(&self) {
        eventually("readiness", || get(self.port, "/readyz").filter(|(status, _)| *status == 200));
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root().join(path)).ok()
    }

    fn shows(&self, path: &str, content: &str) {
        eventually(&format!("{content:?} in {path}"), || (self.read(path)? == content).then_some(()));
    }

    /// Lets the chosen sources sync and waits; the status and what is told.
    fn sync(&self, query: &str) -> (u16, serde_json::Value) {
        self.call(&format!("/sync?wait=60s{query}"))
    }

    fn call(&self, path: &str) -> (u16, serde_json::Value) {
        let (status, body) = post(self.port, path, &[&format!("Authorization: Bearer {TOKEN}")], "").unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }

    fn metric(&self, series: &str) -> Option<f64> {
        let (_, page) = get(self.port, "/metrics")?;
        page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&get(self.port, "/status.json").unwrap().1).unwrap()
    }

    /// The object stores.
    fn stores(&self) -> Vec<PathBuf> {
        let stores = self.root().join(".gitsync/.stores");
        fs::read_dir(stores).into_iter().flatten().map(|entry| entry.unwrap().path().join(".git")).collect()
    }

    /// The names in a directory of the volume.
    fn names(&self, path: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.root().join(path)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

/// Objects in packs, each as often as there is a pack with it.
fn packed(store: &Path) -> Vec<String> {
    let packs = fs::read_dir(store.join("objects/pack")).unwrap().map(|entry| entry.unwrap().path());
    let indexes = packs.filter(|path| path.extension().is_some_and(|extension| extension == "idx"));
    let ids = indexes.flat_map(|index| {
        let shown = run(Command::new("git").arg("show-index").stdin(fs::File::open(index).unwrap()));
        shown.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    });
    ids.collect()
}

/// A site that is pushed to through http-backend.
fn served() -> (Site, Http) {
    let site = Site::new();
    let http = Http::serve(&site, "");
    git(&site.work(), &["remote", "set-url", "origin", &http.url()]);
    (site, http)
}

fn push_to(site: &Site, reference: &str, file: &str, content: &str) {
    fs::write(site.work().join(file), content).unwrap();
    git(&site.work(), &["add", "-A"]);
    git(&site.work(), &["commit", "-q", "--allow-empty", "-m", content]);
    git(&site.work(), &["push", "-q", "-f", "origin", &format!("HEAD:{reference}")]);
}

fn delete(site: &Site, reference: &str) {
    git(&site.work(), &["push", "-q", "origin", &format!(":{reference}")]);
}

#[test]
fn two_repositories_and_a_folder_for_each_preview() {
    let ((one, http), (other, elsewhere)) = (served(), served());
    one.push(&[("page", "main 1"), ("large", &"text\n".repeat(1_000))]);
    other.push(&[("doc", "docs 1")]);
    push_to(&one, "refs/heads/preview/new-menu", "page", "menu 1");
    push_to(&one, "refs/heads/preview/team/x", "page", "x 1");
    let volume = Volume::start(&format!(
        "sources:\n- {{name: site, repo: {one}, ref: main}}\n- name: previews\n  repo: {one}\n  refs: [preview/*]\n\
         - {{name: docs, repo: {other}, link: deep/docs}}\n",
        one = http.url(),
        other = elsewhere.url(),
    ));
    volume.ready();
    for (path, content) in [
        ("site/page", "main 1"),
        ("previews/preview-new-menu/page", "menu 1"),
        ("previews/preview-team-x/page", "x 1"),
        ("deep/docs/doc", "docs 1"),
    ] {
        assert_eq!(volume.read(path).as_deref(), Some(content), "{path}");
    }
    // Two object stores, and nothing twice in them.
    assert_eq!(volume.stores().len(), 2);
    for store in volume.stores() {
        let all = packed(&store);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{store:?}");
        assert!(!all.is_empty());
    }
    let asked = |http: &Http| {
        http.requests().iter().filter(|line| line.contains("POST /site.git/git-upload-pack")).count()
    };
    let first = asked(&http);
    assert!(first <= 3, "one question and at most two fetches for three refs: {:?}", http.requests());
    // One question for all refs of a remote.
    assert_eq!(volume.sync("").1["status"], "unchanged");
    assert_eq!(asked(&http), first + 1, "{:?}", http.requests());
    // What git sees in a checkout is whole.
    let log = git(&volume.root().join("previews/preview-team-x"), &["log", "--format=%s", "-1"]);
    assert_eq!(log.trim(), "x 1");
    assert_eq!(git(&volume.root().join("site"), &["status", "--porcelain"]), "");

    // One moves, one comes, one goes.
    push_to(&one, "refs/heads/preview/new-menu", "page", "menu 2");
    push_to(&one, "refs/heads/preview/third", "page", "third 1");
    delete(&one, "refs/heads/preview/team/x");
    let before = asked(&http);
    volume.sync("");
    volume.shows("previews/preview-new-menu/page", "menu 2");
    volume.shows("previews/preview-third/page", "third 1");
    let names = ["preview-new-menu", "preview-third"].map(str::to_owned);
    assert_eq!(volume.names("previews"), BTreeSet::from(names.clone()));
    assert_eq!(volume.names(".gitsync/previews"), BTreeSet::from(names));
    assert!(asked(&http) <= before + 3, "one question and a fetch or two: {:?}", http.requests());
    assert_eq!(volume.read("site/page").as_deref(), Some("main 1"));

    // Each has its own numbers, and they go with it. What was published a moment ago is counted by now.
    volume.sync("");
    let (_, page) = get(volume.port, "/metrics").unwrap();
    for source in ["site", "previews", "docs", "previews/preview-third"] {
        assert!(
            page.contains(&format!("git_sync_last_success_timestamp_seconds{{source=\"{source}\"}}")),
            "{page}"
        );
    }
    assert!(!page.contains("preview-team-x"), "{page}");
    let status = volume.status();
    let sources = status["details"]["sources"].as_object().unwrap();
    let shown: Vec<&String> = sources.keys().collect();
    assert_eq!(shown, ["docs", "previews", "previews/preview-new-menu", "previews/preview-third", "site"]);
    assert_eq!(sources["previews/preview-third"]["newest"]["commit"]["subject"], "third 1");
    assert_eq!(sources["previews"]["followed"], 2);
    let (_, html) = get(volume.port, "/").unwrap();
    assert!(html.contains("previews/preview-third") && html.contains("third 1"), "{html}");
}

#[test]
fn the_newest_tag_of_a_range() {
    let (site, http) = served();
    site.push(&[("version", "none")]);
    for tag in ["v1.2.3", "v2.0.0-rc.1", "nightly"] {
        push_to(&site, &format!("refs/tags/{tag}"), "version", tag);
    }
    let list = format!("sources:\n- {{name: app, repo: {}, tags: ^1.2}}\n", http.url());
    let volume = Volume::start(&list);
    volume.ready();
    assert_eq!(volume.read("app/version").as_deref(), Some("v1.2.3"));
    for (tag, wanted) in
        [("v1.2.4", "v1.2.4"), ("v2.0.0", "v1.2.4"), ("v1.10.0", "v1.10.0"), ("v1.9.9", "v1.10.0")]
    {
        push_to(&site, &format!("refs/tags/{tag}"), "version", tag);
        let (status, told) = volume.sync("&source=app");
        assert_eq!(status, 200, "{told}");
        assert_eq!(volume.read("app/version").as_deref(), Some(wanted), "after {tag}");
    }
    assert_eq!(volume.status()["details"]["sources"]["app"]["newest"]["ref"], "refs/tags/v1.10.0");
    // An annotated one counts for what it names.
    git(&site.work(), &["commit", "-q", "--allow-empty", "-m", "later"]);
    fs::write(site.work().join("version"), "annotated").unwrap();
    git(&site.work(), &["commit", "-q", "-a", "-m", "annotated"]);
    git(&site.work(), &["tag", "-a", "-m", "it", "v1.11.0"]);
    git(&site.work(), &["push", "-q", "origin", "v1.11.0"]);
    volume.sync("");
    assert_eq!(volume.read("app/version").as_deref(), Some("annotated"));
}

#[test]
fn a_remote_that_is_down_is_its_own_trouble() {
    let ((good, http), (lost, gone)) = (served(), served());
    good.push(&[("a", "1")]);
    lost.push(&[("a", "old")]);
    let list = format!(
        "sources:\n- {{name: good, repo: {}}}\n- {{name: lost, repo: {}}}\n- {{name: never, repo: \
         http://127.0.0.1:{}/x.git, optional: true}}\n",
        http.url(),
        gone.url(),
        free_port()
    );
    let volume = Volume::start(&list);
    volume.ready();
    drop(gone);
    good.push(&[("a", "2")]);
    let (status, told) = volume.sync("");
    assert_eq!(status, 502, "{told}");
    assert_eq!(told["sources"]["good"]["status"], "updated", "{told}");
    assert_eq!(told["sources"]["lost"]["status"], "failed", "{told}");
    assert_eq!(told["sources"]["never"]["status"], "failed", "{told}");
    assert_eq!(volume.read("good/a").as_deref(), Some("2"));
    assert_eq!(volume.read("lost/a").as_deref(), Some("old"), "what was published stays");
    let (status, text) = get(volume.port, "/readyz").unwrap();
    assert!(status == 200 && text.contains("lost: stale"), "{text}");
    assert!(volume.metric("git_sync_consecutive_failures{source=\"lost\"}").unwrap() >= 1.0);
    assert_eq!(volume.metric("git_sync_consecutive_failures{source=\"good\"}"), Some(0.0));
}

#[test]
fn the_list_is_read_again_when_it_changes() {
    let ((one, http), (other, elsewhere)) = (served(), served());
    one.push(&[("a", "main")]);
    push_to(&one, "refs/heads/dev", "a", "dev");
    other.push(&[("b", "other")]);
    let source = |name: &str, rest: &str| format!("- {{name: {name}, {rest}}}\n");
    let site = source("site", &format!("repo: {}, ref: main", http.url()));
    let volume = Volume::start(&format!("sources:\n{site}"));
    volume.ready();
    // One more, of the same repository and of another one.
    let dev = source("dev", &format!("repo: {}, ref: dev", http.url()));
    let docs = source("docs", &format!("repo: {}", elsewhere.url()));
    volume.write(&format!("sources:\n{site}{dev}{docs}"));
    volume.shows("dev/a", "dev");
    volume.shows("docs/b", "other");
    let old = volume.metric("git_sync_count_total{source=\"site\",status=\"success\"}");
    assert_eq!(old, Some(1.0), "the others are left alone");
    // A broken one changes nothing, and says where it is broken.
    volume.write(&format!("sources:\n{site}{}", dev.replace("ref: dev", "perid: 1s")));
    let problem = eventually("the complaint", || {
        let (_, text) = get(volume.port, "/readyz")?;
        text.contains("sources.yaml:3").then_some(text)
    });
    assert!(problem.contains("unknown key `perid`, did you mean `period`?"), "{problem}");
    assert_eq!(volume.read("docs/b").as_deref(), Some("other"));
    // One goes, one changes, one gets another link.
    let changed = site.replace("ref: main", "ref: dev").replace("name: site", "name: site, link: web");
    volume.write(&format!("sources:\n{changed}"));
    volume.shows("web/a", "dev");
    eventually("the removal", || {
        (volume.names("") == BTreeSet::from([".gitsync".to_owned(), "web".to_owned()])).then_some(())
    });
    eventually("one store", || (volume.stores().len() == 1).then_some(()));
    let (_, page) = get(volume.port, "/metrics").unwrap();
    assert!(!page.contains("source=\"dev\"") && !page.contains("source=\"docs\""), "{page}");
    // From one ref to a folder for each.
    volume.write(&format!("sources:\n- {{name: site, repo: {}, refs: [main, dev]}}\n", http.url()));
    volume.shows("site/main/a", "main");
    volume.shows("site/dev/a", "dev");
    eventually("the old link's end", || (!volume.root().join("web").is_symlink()).then_some(()));
}

#[test]
fn there_are_not_more_folders_than_allowed() {
    let (site, http) = served();
    site.push(&[("a", "main")]);
    for name in ["p/1", "p/2", "p/3"] {
        push_to(&site, &format!("refs/heads/{name}"), "a", name);
    }
    let list = format!("sources:\n- {{name: p, repo: {}, refs: [p/*], max: 2}}\n", http.url());
    let volume = Volume::start(&list);
    volume.shows("p/p-1/a", "p/1");
    volume.shows("p/p-2/a", "p/2");
    let (status, told) = volume.sync("&source=p");
    assert_eq!(status, 502);
    assert_eq!(told["error"], "3 refs fit p/*, but max is 2: 1 of them are not followed");
    assert_eq!(volume.names("p").len(), 2);
    delete(&site, "refs/heads/p/1");
    let (status, told) = volume.sync("&source=p");
    assert_eq!(status, 200, "{told}");
    volume.shows("p/p-3/a", "p/3");
    assert_eq!(volume.names("p"), BTreeSet::from(["p-2", "p-3"].map(str::to_owned)));
}

#[test]
fn webhooks_and_calls_choose_sources() {
    let ((one, http), (other, elsewhere)) = (served(), served());
    for site in [&one, &other] {
        site.push(&[("a", "1")]);
    }
    // The addresses differ by their ports only, which webhooks don't look at.
    let list = format!(
        "sources:\n- {{name: main, repo: {one}, ref: main, push-webhook-repository: org/one}}\n\
         - {{name: previews, repo: {one}, refs: [preview/*], push-webhook-repository: org/one}}\n\
         - {{name: other, repo: {other}, push-webhook-repository: org/other}}\n",
        one = http.url(),
        other = elsewhere.url()
    );
    let volume = Volume::start(&list);
    volume.ready();
    let deliver = |repository: &str, reference: &str, after: &str| {
        let body = format!(
            r#"{{"ref":"{reference}","after":"{after}","repository":{{"full_name":"{repository}","default_branch":"main"}}}}"#
        );
        let header = format!("X-Hub-Signature-256: sha256={}", hmac(SECRET, &body));
        post(volume.port, "/webhook", &["X-GitHub-Event: push", &header], &body).unwrap().0
    };
    let attempts = |source: &str| {
        let of = |status| {
            volume.metric(&format!("git_sync_count_total{{source=\"{source}\",status=\"{status}\"}}"))
        };
        of("success").unwrap_or(0.0) + of("noop").unwrap_or(0.0)
    };
    one.push(&[("a", "2")]);
    assert_eq!(deliver("org/one", "refs/heads/main", "1"), 202);
    volume.shows("main/a", "2");
    assert_eq!(attempts("previews"), 1.0, "not asked");
    assert_eq!(attempts("other"), 1.0, "not asked");
    push_to(&one, "refs/heads/preview/a", "a", "preview");
    assert_eq!(deliver("org/one", "refs/heads/preview/a", "2"), 202);
    volume.shows("previews/preview-a/a", "preview");
    assert_eq!(deliver("org/one", "refs/heads/elsewhere", "3"), 200);
    assert_eq!(deliver("org/third", "refs/heads/main", "4"), 404);
    delete(&one, "refs/heads/preview/a");
    assert_eq!(deliver("org/one", "refs/heads/preview/a", "5"), 202);
    eventually("the folder's end", || volume.names("previews").is_empty().then_some(()));

    other.push(&[("a", "3")]);
    let (status, told) = volume.sync("&repository=org/other&ref=HEAD");
    assert_eq!((status, &told["status"]), (200, &"updated".into()), "{told}");
    assert_eq!(told["source"], "other");
    assert_eq!(volume.sync("&source=nobody").0, 404);
    // A roll-back is for one of them.
    assert_eq!(volume.call("/rollback").0, 400);
    assert_eq!(volume.call("/rollback?source=previews").0, 400);
    let (status, told) = volume.call("/rollback?source=other");
    assert_eq!(status, 200, "{told}");
    assert_eq!(volume.read("other/a").as_deref(), Some("1"));
    assert_eq!(volume.read("main/a").as_deref(), Some("2"));
    // So is a pin; the others follow their refs.
    let (status, told) = volume.call("/pin?source=main");
    assert_eq!(status, 200, "{told}");
    for site in [&one, &other] {
        site.push(&[("a", "4")]);
    }
    assert_eq!(volume.sync("").0, 200);
    assert_eq!(volume.read("main/a").as_deref(), Some("2"));
    assert_eq!(volume.read("other/a").as_deref(), Some("4"));
    assert_eq!(volume.call("/unpin?source=main").0, 200);
    volume.shows("main/a", "4");
    // The page lets somebody with the token choose.
    let page = get(volume.port, "/").unwrap().1;
    for part in ["<select id=\"choice\" name=\"source\"", "<option>main</option>", "data-call=\"/pin\""] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
#[ignore = "needs nginx, fcgiwrap and git-lfs"]
fn each_source_has_its_submodules_and_large_files() {
    let ((outer, http), (inner, elsewhere)) = (served(), served());
    inner.push(&[("part", "of the inner one")]);
    let module = elsewhere.url();
    git(&outer.work(), &["submodule", "add", "-q", &module, "inner"]);
    outer.push(&[("a", "1")]);
    // A repository on this machine brings its large files itself.
    let large = Site::new();
    git(&large.work(), &["lfs", "install", "--local"]);
    fs::write(large.work().join(".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n").unwrap();
    fs::write(large.work().join("b.bin"), "large".repeat(1_000)).unwrap();
    git(&large.work(), &["add", "-A"]);
    git(&large.work(), &["commit", "-q", "-m", "large"]);
    let list = format!(
        "sources:\n- {{name: with, repo: {outer}}}\n- {{name: without, repo: {outer}, submodules: off}}\n\
         - {{name: large, repo: {large}, lfs: on}}\n- {{name: pointers, repo: {large}}}\n",
        outer = http.url(),
        large = large.work().display()
    );
    let volume = Volume::start(&list);
    volume.ready();
    volume.shows("with/inner/part", "of the inner one");
    assert_eq!(volume.read("without/a").as_deref(), Some("1"));
    assert!(!volume.root().join("without/inner/part").exists());
    assert_eq!(volume.read("large/b.bin"), Some("large".repeat(1_000)));
    assert!(volume.read("pointers/b.bin").unwrap().starts_with("version https://git-lfs"));
    // One more commit of the inner one is published when the outer one names it.
    inner.push(&[("part", "newer")]);
    git(&outer.work(), &["submodule", "update", "-q", "--remote", "inner"]);
    outer.push(&[("a", "2")]);
    assert_eq!(volume.sync("&source=with").0, 200);
    volume.shows("with/inner/part", "newer");
}

#[test]
fn killed_at_any_moment_it_goes_on() {
    let (site, http) = served();
    site.push(&[("a", "main 0"), ("large", &"text\n".repeat(2_000))]);
    let list = format!(
        "sources:\n- {{name: main, repo: {one}, ref: main, reuse: auto}}\n- {{name: p, repo: {one}, refs: [p/*]}}\n",
        one = http.url()
    );
    let mut volume = Volume::start(&list);
    volume.ready();
    for round in 0..8 {
        site.push(&[("a", &format!("main {round}"))]);
        push_to(&site, &format!("refs/heads/p/{round}"), "a", &format!("p {round}"));
        if round > 1 {
            delete(&site, &format!("refs/heads/p/{}", round - 2));
        }
        if let Some(process) = &volume.process {
            let _ = post(volume.port, "/sync", &[&format!("Authorization: Bearer {TOKEN}")], "");
            std::thread::sleep(Duration::from_millis(7 * round));
            process.signal("KILL");
        }
        volume.process = None;
        // Whatever was published is whole.
        assert!(volume.read("main/a").unwrap().starts_with("main "), "round {round}");
        for name in volume.names("p") {
            assert!(volume.read(&format!("p/{name}/a")).unwrap().starts_with("p "), "round {round}: {name}");
        }
        volume.restart();
        eventually("the process", || get(volume.port, "/livez"));
    }
    volume.ready();
    volume.sync("");
    volume.shows("main/a", "main 7");
    volume.shows("p/p-6/a", "p 6");
    volume.shows("p/p-7/a", "p 7");
    let left = BTreeSet::from(["p-6", "p-7"].map(str::to_owned));
    assert_eq!(volume.names("p"), left);
    assert_eq!(volume.names(".gitsync/p"), left);
    for store in volume.stores() {
        run(Command::new("git").arg("-C").arg(store).args(["fsck", "--connectivity-only"]));
    }
    assert!(!volume.log().contains("damaged"), "{}", volume.log());
}

#[test]
fn once_and_checked() {
    let (site, http) = served();
    site.push(&[("a", "1")]);
    push_to(&site, "refs/heads/p/1", "a", "p");
    let volume = Volume { dir: tempfile::tempdir().unwrap(), port: 0, process: None };
    let good = format!(
        "sources:\n- {{name: a, repo: {one}}}\n- {{name: p, repo: {one}, refs: [p/*]}}\n",
        one = http.url()
    );
    volume.write(&good);
    let checked = finish(volume.command().arg("--check-config"));
    assert!(checked.status.success(), "{}", text(&checked));
    assert!(!volume.root().exists());
    let once = finish(volume.command().arg("--one-time"));
    assert_eq!(once.status.code(), Some(0), "{}", text(&once));
    assert_eq!(volume.read("a/a").as_deref(), Some("1"));
    assert_eq!(volume.read("p/p-1/a").as_deref(), Some("p"));
    // The others are done all the same.
    site.push(&[("a", "2")]);
    volume.write(&format!("{good}- {{name: bad, repo: {}, ref: nowhere}}\n", http.url()));
    let once = finish(volume.command().arg("--one-time"));
    assert_eq!(once.status.code(), Some(1), "{}", text(&once));
    assert_eq!(volume.read("a/a").as_deref(), Some("2"));
    volume.write(&good.replace("refs: [p/*]", "refs: [p/*], depht: 1"));
    let checked = finish(volume.command().arg("--check-config"));
    assert_eq!(checked.status.code(), Some(2));
    assert!(
        text(&checked).contains("sources.yaml:3: unknown key `depht`, did you mean `depth`?"),
        "{}",
        text(&checked)
    );
    // A second process on the same volume is refused.
    volume.write(&good);
    site.push(&[("a", "3")]);
    let first = Running::start(&mut volume.command());
    volume.shows("a/a", "3");
    eventually("the first one", || {
        let refused = finish(volume.command().arg("--one-time"));
        text(&refused).contains("can't use the root").then_some(())
    });
    drop(first);
}
