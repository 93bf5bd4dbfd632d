//! `--filter` against the real git: what it saves, and partial clones that others left.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Http, Site, finish, git, run, succeed, text};

/// Small files in `src`, large ones in `media` that no pack makes smaller.
fn push(site: &Site, round: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15u64 + round as u64;
    let mut noise = |length: usize| {
        let mut text = String::with_capacity(length + 16);
        while text.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(&format!("{state:x}"));
        }
        text
    };
    let mut files: Vec<(String, String)> =
        (0..30).map(|at| (format!("src/d{}/f{at}", at % 3), format!("{round} {at}\n"))).collect();
    files.extend((0..12).map(|at| (format!("media/m{at}"), noise(30_000))));
    files.push((".gitattributes".to_owned(), "*.txt text eol=crlf\n".to_owned()));
    files.push(("src/dos.txt".to_owned(), format!("{round}\nlines\n")));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&path[..], &text[..])).collect();
    site.push(&files)
}

fn content(top: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![top.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().unwrap() != ".git" {
                found.insert(path.strip_prefix(top).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn packs(site: &Site) -> u64 {
    let files = fs::read_dir(site.root().join(".git/objects/pack")).unwrap();
    files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|x| x == "pack"))
        .map(|path| path.metadata().unwrap().len())
        .sum()
}

/// The published tree is a whole checkout for a git that can't reach the remote.
fn works_offline(site: &Site, hash: &str) {
    assert_eq!(site.published(), hash);
    let offline = |arguments: &[&str]| {
        let refuse = ["-c", "protocol.allow=never"];
        run(Command::new("git")
            .arg("-C")
            .arg(site.link())
            .args(refuse)
            .args(arguments)
            .env_remove("GIT_ALLOW_PROTOCOL"))
    };
    assert_eq!(offline(&["rev-parse", "HEAD"]).trim(), hash);
    assert_eq!(offline(&["status", "--porcelain"]), "");
    assert!(offline(&["log", "-1", "--format=%s"]).contains("change"));
    offline(&["fsck"]);
}

#[test]
#[ignore = "needs nginx and fcgiwrap"]
fn a_filter_saves_bytes_and_publishes_the_same() {
    let site = Site::new();
    let patterns = site.dir.path().join("patterns");
    fs::write(&patterns, "/src/\n").unwrap();
    push(&site, 0);
    let http = Http::serve(&site, "");
    for sparse in [false, true] {
        let extra = format!("--sparse-checkout-file={}", patterns.display());
        let (mut whole, mut trees) = (0, Vec::new());
        for filter in ["", "blob:none", "blob:limit=1k", "tree:0"] {
            let filter = format!("--filter={filter}");
            let mut arguments = vec!["--one-time", &filter[..]];
            arguments.extend(sparse.then_some(&extra[..]));
            let mut rounds = Vec::new();
            for round in 1..4 {
                let hash = push(&site, round);
                succeed(&mut site.sync_from(&http.url(), &arguments));
                works_offline(&site, &hash);
                rounds.push(content(&site.link().canonicalize().unwrap()));
            }
            assert_eq!(rounds[2].contains_key(Path::new("media/m1")), !sparse);
            assert_eq!(rounds[2][Path::new("src/dos.txt")], b"3\r\nlines\r\n");
            trees.push(rounds);
            match (sparse, filter == "--filter=") {
                (_, true) => whole = packs(&site),
                (true, false) => assert!(packs(&site) * 10 < whole, "{filter}: {} of {whole}", packs(&site)),
                (false, false) => {}
            }
            fs::remove_dir_all(site.root()).unwrap();
        }
        assert!(trees.iter().all(|rounds| *rounds == trees[0]));
    }
}

#[test]
#[ignore = "needs nginx and fcgiwrap"]
fn more_of_a_partial_store_is_fetched_when_the_patterns_want_it() {
    let site = Site::new();
    let patterns = site.dir.path().join("patterns");
    let hash = push(&site, 1);
    let http = Http::serve(&site, "");
    let extra = format!("--sparse-checkout-file={}", patterns.display());
    for filter in ["blob:none", "tree:0"] {
        let filter = format!("--filter={filter}");
        let arguments = ["--one-time", &extra, &filter];
        fs::write(&patterns, "/src/d1/\n").unwrap();
        succeed(&mut site.sync_from(&http.url(), &arguments));
        works_offline(&site, &hash);
        fs::write(&patterns, "/src/\n/media/m3\n").unwrap();
        succeed(&mut site.sync_from(&http.url(), &arguments));
        works_offline(&site, &hash);
        assert!(site.link().join("media/m3").is_file() && !site.link().join("media/m4").exists());
        // Neither patterns nor a filter any more.
        succeed(&mut site.sync_from(&http.url(), &["--one-time"]));
        works_offline(&site, &hash);
        assert!(site.link().join("media/m4").is_file());
        fs::remove_dir_all(site.root()).unwrap();
    }
}

#[test]
#[ignore = "needs nginx and fcgiwrap"]
fn a_server_without_filters_gives_everything() {
    let site = Site::new();
    git(&site.bare(), &["config", "uploadpack.allowFilter", "false"]);
    let hash = push(&site, 1);
    let http = Http::serve(&site, "");
    let output = finish(&mut site.sync_from(&http.url(), &["--one-time", "--filter=blob:none"]));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(text(&output).matches("knows no filters").count(), 1, "{}", text(&output));
    works_offline(&site, &hash);
    assert_eq!(git(&site.root(), &["config", "--get", "--default=", "remote.origin.promisor"]), "\n");
    // Nor does git of a local path leave anything out.
    fs::remove_dir_all(site.root()).unwrap();
    succeed(&mut site.sync(&["--one-time", "--filter=blob:none"]));
    works_offline(&site, &hash);
}

/// What kubernetes/git-sync with a filter does with the git program.
fn as_the_peer(site: &Site, url: &str, filter: &str, hash: &str) {
    let root = site.root();
    run(Command::new("git").args(["init", "-q", "-b", "git-sync"]).arg(&root));
    git(&root, &["remote", "add", "origin", url]);
    git(&root, &["fetch", "-q", "--depth=1", &format!("--filter={filter}"), "origin", "main"]);
    git(&root, &["reset", "-q", "--soft", "FETCH_HEAD"]);
    let place = format!(".worktrees/{hash}");
    git(&root, &["worktree", "add", "-q", "--force", "--no-checkout", "--detach", &place, hash]);
    git(&root.join(&place), &["sparse-checkout", "set", "--no-cone", "/src/"]);
    git(&root.join(&place), &["reset", "-q", "--hard"]);
    symlink(&place, site.link()).unwrap();
}

#[test]
#[ignore = "needs nginx and fcgiwrap"]
fn partial_clones_of_the_peer_are_taken_over() {
    for filter in ["blob:none", "tree:0"] {
        let site = Site::new();
        let hash = push(&site, 1);
        let http = Http::serve(&site, "");
        let patterns = site.dir.path().join("patterns");
        fs::write(&patterns, "/src/\n").unwrap();
        let sparse = format!("--sparse-checkout-file={}", patterns.display());
        as_the_peer(&site, &http.url(), filter, &hash);
        assert!(packs(&site) < 30_000, "the peer's clone is partial");
        fs::write(site.root().join(".git/mark"), "").unwrap();
        // First as the peer was asked, then for a new commit, then for all files.
        succeed(&mut site.sync_from(&http.url(), &["--one-time", &sparse]));
        works_offline(&site, &hash);
        assert!(packs(&site) < 30_000, "a re-clone");
        let hash = push(&site, 2);
        let filter = format!("--filter={filter}");
        succeed(&mut site.sync_from(&http.url(), &["--one-time", &sparse, &filter]));
        works_offline(&site, &hash);
        let hash = push(&site, 3);
        succeed(&mut site.sync_from(&http.url(), &["--one-time"]));
        works_offline(&site, &hash);
        assert!(site.link().join("media/m4").is_file());
        assert!(site.root().join(".git/mark").exists(), "the repository was made anew");
        // The same volume with a local path as its source.
        let hash = push(&site, 4);
        succeed(&mut site.sync(&["--one-time"]));
        works_offline(&site, &hash);
    }
}

#[test]
#[ignore = "needs nginx and fcgiwrap"]
fn a_server_that_sends_no_single_objects_is_asked_for_everything() {
    let site = Site::new();
    let hash = push(&site, 1);
    let http = Http::serve(&site, "");
    as_the_peer(&site, &http.url(), "blob:none", &hash);
    // Version 0 of the protocol refuses objects that no ref names.
    let old = Http::serve_old(&site);
    let hash = push(&site, 2);
    succeed(&mut site.sync_from(&old.url(), &["--one-time", "--filter=blob:none"]));
    works_offline(&site, &hash);
    assert!(site.link().join("media/m4").is_file());
}
