//! The binary against repositories and servers of the real git.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::{Http, Running, Site, eventually, finish, free_port, get, git, run, succeed, text};

#[test]
fn every_kind_of_ref_over_every_transport() {
    let site = Site::new();
    let old = site.push(&[("a", "1"), ("deep/er/b", "1")]);
    git(&site.work(), &["tag", "-a", "v1", "-m", "v1"]);
    git(&site.work(), &["branch", "feature"]);
    let new = site.push(&[("a", "2")]);
    git(&site.work(), &["push", "-q", "origin", "feature", "v1"]);
    let http = Http::serve(&site, "");
    let port = free_port();
    // Not through `git`, whose child would be left behind.
    let daemon = format!("{}/git-daemon", git(&site.work(), &["--exec-path"]).trim());
    let _daemon = Running::start(Command::new(daemon).args([
        "--export-all",
        "--reuseaddr",
        "--listen=127.0.0.1",
        &format!("--port={port}"),
        &format!("--base-path={}", site.dir.path().display()),
    ]));
    eventually("git daemon", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let urls = [
        site.url(),
        site.bare().display().to_string(),
        site.work().display().to_string(),
        http.url(),
        http.url().replace("/site.git", "/old/site.git"),
        format!("git://127.0.0.1:{port}/site.git"),
    ];
    for url in urls {
        let _ = fs::remove_dir_all(site.root());
        let refs = [
            ("HEAD", &new),
            ("main", &new),
            ("v1", &old),
            ("refs/heads/feature", &old),
            ("HEAD", &new),
            (&old[..], &old),
        ];
        for (name, hash) in refs {
            succeed(&mut site.sync_from(&url, &["--one-time", &format!("--ref={name}")]));
            assert_eq!(site.published(), *hash, "{url} {name}");
            assert_eq!(git(&site.link(), &["rev-parse", "HEAD"]).trim(), hash);
            assert_eq!(git(&site.link(), &["status", "--porcelain"]), "", "{url} {name}");
            git(&site.link(), &["fsck"]);
        }
        for (depth, count) in [("2", "2"), ("1", "1"), ("0", "2")] {
            succeed(&mut site.sync_from(&url, &["--one-time", "--ref=main", &format!("--depth={depth}")]));
            assert_eq!(
                git(&site.link(), &["rev-list", "--count", "HEAD"]).trim(),
                count,
                "{url} depth {depth}"
            );
            git(&site.link(), &["fsck"]);
        }
        git(&site.link(), &["archive", "-o", "/dev/null", "HEAD"]);
        let left: Vec<_> = fs::read_dir(site.root().join(".worktrees")).unwrap().collect();
        assert_eq!(left.len(), 1, "{url}");
    }
}

#[test]
fn modes_links_and_odd_names_are_real() {
    let site = Site::new();
    let work = site.work();
    fs::create_dir_all(work.join("d")).unwrap();
    symlink("../a", work.join("d/up")).unwrap();
    symlink("/etc/passwd", work.join("out")).unwrap();
    fs::write(work.join("run.sh"), "#!/bin/sh\n").unwrap();
    run(Command::new("chmod").arg("+x").arg(work.join("run.sh")));
    let odd = std::ffi::OsString::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(
        b"\xff o\"dd\n",
    ));
    fs::write(work.join(&odd), "odd").unwrap();
    (0..300).for_each(|i| fs::write(work.join(format!("d/n{i}")), format!("{i}")).unwrap());
    site.commit();
    succeed(&mut site.sync(&["--one-time"]));
    assert_eq!(git(&site.link(), &["status", "--porcelain"]), "");
    assert_eq!(fs::read_to_string(site.link().join(&odd)).unwrap(), "odd");
    let listing = |top: &std::path::Path| {
        run(Command::new("find")
            .arg(".")
            .args(["-name", ".git", "-prune", "-o", "-printf", "%p %y %m %l\\n"])
            .current_dir(top))
    };
    let sorted = |text: String| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let clone = site.dir.path().join("clone");
    run(Command::new("git").args(["clone", "-q"]).arg(site.bare()).arg(&clone));
    assert_eq!(sorted(listing(&site.link().canonicalize().unwrap())), sorted(listing(&clone)));
}

#[test]
fn hostile_names_are_never_written() {
    for (path, reason) in
        [("x/.GIT/config", "disguise"), ("..", "step"), ("a/../../up", "step"), ("git~1/x", "disguise")]
    {
        let site = Site::new();
        // The real git refuses to build such a tree, so it is written by hand.
        let script = r#"
import hashlib, os, subprocess, sys, zlib
top, path = sys.argv[1], sys.argv[2].split("/")
def put(kind, data):
    raw = kind + b" %d\0" % len(data) + data
    name = hashlib.sha1(raw).hexdigest()
    target = os.path.join(top, "objects", name[:2], name[2:])
    os.makedirs(os.path.dirname(target), exist_ok=True)
    open(target, "wb").write(zlib.compress(raw))
    return name
mode, name = b"100644", put(b"blob", b"bad")
for part in reversed(path):
    name = put(b"tree", mode + b" " + part.encode() + b"\0" + bytes.fromhex(name))
    mode = b"40000"
who = b"T <t@localhost> 1700000000 +0000"
commit = put(b"commit", b"tree " + name.encode() + b"\nauthor " + who + b"\ncommitter " + who + b"\n\nbad\n")
open(os.path.join(top, "refs/heads/main"), "w").write(commit + "\n")
"#;
        run(Command::new("python3").args(["-c", script]).arg(site.bare()).arg(path));
        let output = finish(&mut site.sync(&["--one-time"]));
        assert_eq!(output.status.code(), Some(1), "{path}");
        assert!(text(&output).contains(reason), "{path}: {}", text(&output));
        assert!(!site.link().exists() && !site.root().join("up").exists());
        assert_eq!(fs::read_dir(site.root().join(".worktrees")).unwrap().count(), 0, "{path}");
    }
}

#[test]
fn a_reader_sees_whole_trees_while_the_process_is_killed_again_and_again() {
    let rounds = std::env::var("GITSYNC_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let site = Site::new();
    let push = |n: u64| {
        let text = n.to_string();
        let names: Vec<String> = (0..40).map(|i| format!("d{}/f{i}", i % 7)).collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), text.as_str())).collect();
        site.push(&files)
    };
    push(0);
    succeed(&mut site.sync(&["--one-time"]));
    let (stop, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let tree = site.link().canonicalize().expect("the link always leads somewhere");
                let first = fs::read_to_string(tree.join("d0/f0")).unwrap();
                for i in [8, 23, 39] {
                    assert_eq!(fs::read_to_string(tree.join(format!("d{}/f{i}", i % 7))).unwrap(), first);
                }
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut random = 0x9e37_79b9u64;
        let arguments = ["--period=10ms", "--stale-worktree-timeout=10s", "--max-failures=-1"];
        for round in 1..=rounds {
            let process = Running::start(&mut site.sync(&arguments));
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            std::thread::sleep(Duration::from_micros(random % 40_000));
            push(round);
            std::thread::sleep(Duration::from_micros(random % 25_000));
            drop(process);
        }
        let hash = push(rounds + 1);
        let output = finish(&mut site.sync(&["--one-time", "--stale-worktree-timeout=10s"]));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert_eq!(site.published(), hash);
    });
    assert!(looks.load(Ordering::Relaxed) > 100);
    assert_eq!(git(&site.link(), &["status", "--porcelain"]), "");
    git(&site.link(), &["fsck"]);
}

#[test]
fn left_overs_of_a_killed_process_are_healed() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    succeed(&mut site.sync(&["--one-time"]));
    let hash = site.push(&[("a", "2")]);
    let (root, git_dir) = (site.root(), site.root().join(".git"));
    let old = site.published();
    for lock in [
        "HEAD.lock",
        "shallow.lock",
        "config.lock",
        "refs/heads/git-sync.lock",
        &format!("worktrees/{old}/index.lock"),
    ] {
        fs::write(git_dir.join(lock), "").unwrap();
    }
    symlink(format!(".worktrees/{old}"), root.join("tmp-link")).unwrap();
    fs::create_dir(root.join(".worktrees").join(&hash)).unwrap();
    fs::write(root.join(".worktrees").join(&hash).join("half"), "").unwrap();
    succeed(&mut site.sync(&["--one-time"]));
    assert_eq!((site.published(), site.read("a")), (hash, "2".to_owned()));
    assert!(!site.link().join("half").exists());
    assert!(fs::symlink_metadata(root.join("tmp-link")).is_err());
    assert!(!git_dir.join("HEAD.lock").exists());
}

#[test]
fn changes_by_others_are_noticed_and_repaired() {
    let site = Site::new();
    let hash = site.push(&[("a", "1"), ("b/c", "2"), ("d", "3")]);
    let port = free_port();
    let bind = format!("--http-bind=127.0.0.1:{port}");
    let _process = Running::start(&mut site.sync(&["--period=20ms", &bind, "--http-metrics"]));
    eventually("the first sync", || get(port, "/").filter(|(status, _)| *status == 200));
    let restored = |name: &str, content: &str| {
        eventually(name, || fs::read_to_string(site.link().join(name)).ok().filter(|text| text == content));
    };
    fs::write(site.link().join("a"), "edited").unwrap();
    restored("a", "1");
    fs::remove_dir_all(site.link().join("b")).unwrap();
    restored("b/c", "2");
    fs::remove_file(site.link().join("d")).unwrap();
    symlink("/etc/passwd", site.link().join("d")).unwrap();
    restored("d", "3");
    eventually("a clean tree", || git(&site.link(), &["status", "--porcelain"]).is_empty().then_some(()));
    let counted =
        || get(port, "/metrics").filter(|(_, page)| page.contains("git_sync_restored_files_total 3"));
    eventually("the count", counted);
    // A commit inside the checkout, and the checkout gone.
    git(&site.link(), &["commit", "-q", "--allow-empty", "-m", "mine"]);
    eventually("HEAD", || (git(&site.link(), &["rev-parse", "HEAD"]).trim() == hash).then_some(()));
    fs::rename(site.root().join(".worktrees"), site.dir.path().join("taken")).unwrap();
    restored("a", "1");
    // A damaged index.
    let index = site.root().join(".git/worktrees").join(&hash).join("index");
    let length = fs::metadata(&index).unwrap().len();
    fs::OpenOptions::new().write(true).open(&index).unwrap().set_len(length / 2).unwrap();
    eventually("the index", || fs::metadata(&index).ok().filter(|meta| meta.len() == length));
    assert_eq!(git(&site.link(), &["status", "--porcelain"]), "");
    // Times and owners alone are no change.
    run(Command::new("touch").arg(site.link().join("a")));
    std::thread::sleep(Duration::from_millis(100));
    let page = get(port, "/metrics").unwrap().1;
    assert!(page.contains("git_sync_restored_files_total 3"), "{page}");
    // The very files, but somewhere else.
    let (directory, elsewhere) = (site.link().join("b"), site.dir.path().join("elsewhere"));
    fs::rename(&directory, &elsewhere).unwrap();
    symlink(&elsewhere, &directory).unwrap();
    eventually("a directory", || fs::symlink_metadata(&directory).ok().filter(fs::Metadata::is_dir));
    restored("b/c", "2");
}

#[test]
fn a_damaged_store_is_rebuilt_beside_the_published_tree() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    succeed(&mut site.sync(&["--one-time"]));
    let damage = || {
        for entry in fs::read_dir(site.root().join(".git/objects/pack")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "pack") {
                let mut bytes = fs::read(&path).unwrap();
                bytes[12..].iter_mut().for_each(|byte| *byte ^= 0x55);
                fs::remove_file(&path).unwrap();
                fs::write(&path, bytes).unwrap();
            }
        }
    };
    damage();
    let hash = site.push(&[("a", "2")]);
    succeed(&mut site.sync(&["--one-time"]));
    assert_eq!(site.published(), hash);
    git(&site.link(), &["fsck"]);
    // With the remote gone at that moment, the tree stays.
    damage();
    fs::rename(site.bare(), site.dir.path().join("gone")).unwrap();
    assert_eq!(finish(&mut site.sync(&["--one-time"])).status.code(), Some(1));
    assert_eq!(site.read("a"), "2");
}

#[test]
fn a_remote_that_is_down_does_not_take_the_tree_down() {
    let site = Site::new();
    let hash = site.push(&[("a", "1")]);
    succeed(&mut site.sync(&["--one-time"]));
    fs::rename(site.bare(), site.dir.path().join("gone")).unwrap();
    let port = free_port();
    let bind = format!("--http-bind=127.0.0.1:{port}");
    let errors = site.root().join("err.json");
    let mut process =
        Running::start(&mut site.sync(&["--period=50ms", &bind, "--http-metrics", "--error-file=err.json"]));
    let page = eventually("staleness", || get(port, "/readyz").filter(|(_, body)| body.contains("stale")));
    assert_eq!(page.0, 200);
    let error: serde_json::Value = serde_json::from_str(&fs::read_to_string(&errors).unwrap()).unwrap();
    assert!(error["Err"].as_str().unwrap().contains("site.git"), "{error}");
    assert!(error["Args"]["failCount"].as_u64().unwrap() > 0);
    let metrics = get(port, "/metrics").unwrap().1;
    assert!(metrics.contains("git_sync_consecutive_failures"), "{metrics}");
    fs::rename(site.dir.path().join("gone"), site.bare()).unwrap();
    eventually("recovery", || get(port, "/readyz").filter(|(_, body)| body == "ready\n"));
    let metrics = get(port, "/metrics").unwrap().1;
    assert!(metrics.contains(&format!("git_sync_published_info{{hash=\"{hash}\"}} 1")), "{metrics}");
    assert!(metrics.contains("git_sync_last_success_timestamp_seconds"), "{metrics}");
    assert!(!errors.exists());
    // Who asks for a limit gets it.
    fs::rename(site.bare(), site.dir.path().join("gone")).unwrap();
    process.signal("TERM");
    assert_eq!(process.wait(Duration::from_secs(2)), Some(0));
    let mut limited = Running::start(&mut site.sync(&["--period=10ms", "--max-failures=3"]));
    assert_eq!(limited.wait(Duration::from_secs(10)), Some(1));
    assert_eq!(site.published(), hash);
}

#[test]
fn two_of_them_never_share_a_root() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    let first = Running::start(&mut site.sync(&["--period=1s"]));
    eventually("the first", || site.link().exists().then_some(()));
    let output = finish(&mut site.sync(&["--one-time"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains(&first.0.id().to_string()), "{}", text(&output));
}

#[test]
fn an_idle_poll_over_http_is_one_small_request() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    let http = Http::serve(&site, "");
    let _process = Running::start(&mut site.sync_from(&http.url(), &["--period=20ms"]));
    eventually("the first sync", || site.link().exists().then_some(()));
    let seen = http.requests().len();
    let more = eventually("polls", || Some(http.requests()).filter(|lines| lines.len() > seen + 10));
    for line in &more[more.len() - 5..] {
        assert!(line.contains("POST /site.git/git-upload-pack"), "{line}");
    }
    let new = site.push(&[("a", "2")]);
    eventually("the update", || (site.published() == new).then_some(()));
}

#[test]
fn term_ends_it_at_once_even_while_fetching() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    // A server that accepts and then says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for url in [format!("git://127.0.0.1:{port}/x"), format!("http://127.0.0.1:{port}/x"), site.url()] {
        let mut process = Running::start(&mut site.sync_from(&url, &["--period=1h"]));
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        process.signal("TERM");
        assert_eq!(process.wait(Duration::from_secs(2)), Some(0), "{url}");
        assert!(start.elapsed() < Duration::from_secs(1), "{url}: {:?}", start.elapsed());
    }
    let mut slow =
        site.sync_from(&format!("git://127.0.0.1:{port}/x"), &["--one-time", "--sync-timeout=200ms"]);
    let start = Instant::now();
    let output = finish(&mut slow);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("longer than 200ms") && start.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_foreign_or_broken_root_becomes_ours() {
    let site = Site::new();
    let hash = site.push(&[("a", "1")]);
    for prepare in [
        (|_: &std::path::Path| {}) as fn(&std::path::Path),
        |root| fs::write(root.join("foreign"), "x").unwrap(),
        |root| fs::create_dir(root.join(".git")).unwrap(),
        |root| fs::write(root.join(".git"), "gitdir: /nowhere").unwrap(),
        |root| {
            run(Command::new("git").args(["init", "-q", "--bare"]).arg(root.join(".git")));
        },
        |root| {
            run(Command::new("git").args(["init", "-q"]).arg(root));
        },
    ] {
        let _ = fs::remove_dir_all(site.root());
        fs::create_dir_all(site.root()).unwrap();
        prepare(&site.root());
        succeed(&mut site.sync(&["--one-time"]));
        assert_eq!(site.published(), hash);
        assert!(!site.root().join("foreign").exists());
    }
}

#[test]
fn hooks_get_the_hash_and_a_veto_counts() {
    let site = Site::new();
    let hook = |name: &str, body: &str| {
        let path = site.dir.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        run(Command::new("chmod").arg("+x").arg(&path));
        path.display().to_string()
    };
    let log = site.dir.path().join("log");
    let after = hook("after", &format!("echo $GITSYNC_HASH $(pwd) $(cat a) >> {}", log.display()));
    let before = hook("before", "test \"$(cat a)\" != bad");
    let port = free_port();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let web = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut buffer = [0; 2048];
        let read = std::io::Read::read(&mut stream, &mut buffer).unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    });
    let flags = [
        "--one-time".to_owned(),
        format!("--exechook-command={after}"),
        format!("--pre-publish-exechook-command={before}"),
        "--touch-file=touched".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let good = site.push(&[("a", "good")]);
    let url = format!("--webhook-url=http://127.0.0.1:{port}/x");
    succeed(site.sync(&flags).arg(url));
    let request = web.join().unwrap();
    assert!(
        request.starts_with("POST /x ") && request.to_lowercase().contains(&format!("gitsync-hash: {good}")),
        "{request}"
    );
    let line = fs::read_to_string(&log).unwrap();
    assert!(
        line.starts_with(&format!("{good} ")) && line.contains(".worktrees") && line.ends_with(" good\n"),
        "{line}"
    );
    assert!(site.root().join("touched").exists());
    site.push(&[("a", "bad")]);
    assert_eq!(finish(&mut site.sync(&flags)).status.code(), Some(1));
    assert_eq!(site.published(), good);
    site.push(&[("a", "fine")]);
    let failing = hook("failing", "exit 3");
    let output = finish(&mut site.sync(&["--one-time", &format!("--exechook-command={failing}")]));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(site.read("a"), "fine");
}

#[test]
fn a_signal_starts_a_sync() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    let process = Running::start(&mut site.sync(&["--period=1h", "--sync-on-signal=SIGHUP"]));
    eventually("the first sync", || site.link().exists().then_some(()));
    let hash = site.push(&[("a", "2")]);
    process.signal("HUP");
    eventually("the second sync", || (site.published() == hash).then_some(()));
}

#[test]
fn passwords_by_variable_file_and_url() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    let http = Http::serve(&site, "auth_basic x; auth_basic_user_file htpasswd;");
    let refused = finish(&mut site.sync_from(&http.url(), &["--one-time"]));
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("401"), "{}", text(&refused));
    let wrong = finish(
        site.sync_from(&http.url(), &["--one-time", "--username=user"]).env("GITSYNC_PASSWORD", "wr0ng"),
    );
    assert_eq!(wrong.status.code(), Some(1));
    assert!(!text(&wrong).contains("wr0ng"));
    let mut good = Vec::new();
    let mut by_variable = site.sync_from(&http.url(), &["--one-time", "--username=user"]);
    by_variable.env("GITSYNC_PASSWORD", "secret word");
    good.push(by_variable);
    let file = site.dir.path().join("password");
    fs::write(&file, "secret word\n").unwrap();
    good.push(site.sync_from(
        &http.url(),
        &["--one-time", "--username=user", &format!("--password-file={}", file.display())],
    ));
    good.push(site.sync_from(&http.url().replace("//", "//user:secret%20word@"), &["--one-time"]));
    let json = format!(r#"{{"url":"{}","username":"user","password":"secret word"}}"#, http.url());
    good.push(site.sync_from(&http.url(), &["--one-time", &format!("--credential={json}")]));
    for command in &mut good {
        let _ = fs::remove_dir_all(site.root());
        let output = finish(command);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert!(!text(&output).contains("secret"), "{}", text(&output));
    }
}

#[test]
fn wrong_flags_name_the_nearest() {
    let site = Site::new();
    let output = finish(&mut site.sync(&["--one-tme"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("--one-time"), "{}", text(&output));
    for arguments in [&["--depth=x"][..], &["--period=5"], &["--one-time=maybe"]] {
        assert_eq!(finish(&mut site.sync(arguments)).status.code(), Some(2), "{arguments:?}");
    }
    for arguments in [&["--http-metrics"][..], &["--username=u"], &["--period=1ms"], &["--depth=-1"]] {
        assert_eq!(finish(&mut site.sync(arguments)).status.code(), Some(1), "{arguments:?}");
    }
    assert_eq!(finish(site.sync(&[]).env("GITSYNC_DEPTH", "x")).status.code(), Some(1));
    assert_eq!(finish(Command::new(support::BINARY).arg("--version")).status.code(), Some(0));
    assert_eq!(finish(&mut Command::new(support::BINARY)).status.code(), Some(1));
}

#[test]
fn submodules_at_every_level() {
    let (site, lib, deep) = (Site::new(), Site::new(), Site::new());
    deep.push(&[("d", "deep")]);
    lib.push(&[("l", "lib")]);
    git(
        &lib.work(),
        &[
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            deep.bare().to_str().unwrap(),
            "deep",
        ],
    );
    lib.commit();
    site.push(&[("a", "1")]);
    // One by absolute path with a path of its own, one relative to the parent.
    let relative = "../second.git";
    run(Command::new("cp").arg("-r").arg(lib.bare()).arg(site.dir.path().join("second.git")));
    let add = |url: &str, path: &str| {
        git(&site.work(), &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url, path]);
    };
    add(lib.bare().to_str().unwrap(), "sub/lib");
    add(relative, "second");
    site.commit();
    let tree = |path: &str| fs::read_to_string(site.link().join(path)).ok();
    succeed(&mut site.sync(&["--one-time"]));
    for (path, content) in
        [("sub/lib/l", "lib"), ("second/l", "lib"), ("sub/lib/deep/d", "deep"), ("second/deep/d", "deep")]
    {
        assert_eq!(tree(path).as_deref(), Some(content), "{path}");
    }
    assert_eq!(git(&site.link(), &["status", "--porcelain"]), "");
    git(&site.link().join("sub/lib"), &["fsck"]);
    assert_eq!(git(&site.link().join("sub/lib"), &["rev-list", "--count", "HEAD"]).trim(), "1");
    let status = git(&site.link(), &["submodule", "status"]);
    assert!(!status.contains('-') || status.lines().all(|line| line.starts_with(' ')), "{status}");
    // The submodule moves on.
    lib.push(&[("l", "newer")]);
    git(&site.work().join("sub/lib"), &["-c", "protocol.file.allow=always", "pull", "-q", "origin", "main"]);
    site.commit();
    succeed(&mut site.sync(&["--one-time"]));
    assert_eq!(tree("sub/lib/l").as_deref(), Some("newer"));
    assert_eq!(git(&site.link(), &["status", "--porcelain"]), "");
    for (mode, lib_there, deep_there) in [("shallow", true, false), ("off", false, false)] {
        fs::remove_dir_all(site.root()).unwrap();
        succeed(&mut site.sync(&["--one-time", &format!("--submodules={mode}")]));
        assert_eq!(
            (tree("sub/lib/l").is_some(), tree("sub/lib/deep/d").is_some()),
            (lib_there, deep_there),
            "{mode}"
        );
    }
    // From the network, a local path is a trick.
    let http = Http::serve(&site, "");
    fs::remove_dir_all(site.root()).unwrap();
    let output = finish(&mut site.sync_from(&http.url(), &["--one-time"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("local path"), "{}", text(&output));
}

#[test]
fn sparse_patterns_and_line_endings() {
    let site = Site::new();
    site.push(&[
        ("top", "t"),
        ("docs/a.md", "a\n"),
        ("docs/secret/x", "x"),
        ("src/b.c", "b\n"),
        (".gitattributes", "*.md text eol=crlf\n*.c ident\n"),
        ("src/id.c", "$Id$\n"),
    ]);
    succeed(&mut site.sync(&["--one-time"]));
    assert_eq!(site.read("docs/a.md"), "a\r\n");
    assert!(site.read("src/id.c").starts_with("$Id: "));
    assert_eq!(git(&site.link(), &["status", "--porcelain"]), "");
    run(Command::new("touch").arg(site.link().join("docs/a.md")));
    succeed(&mut site.sync(&["--one-time"]));
    assert_eq!(site.read("docs/a.md"), "a\r\n");
    let file = site.dir.path().join("patterns");
    let flag = format!("--sparse-checkout-file={}", file.display());
    for (patterns, there, not_there) in [
        ("/*\n!/*/\n/docs/\n!/docs/secret/\n", &["top", "docs/a.md"][..], &["docs/secret", "src"][..]),
        ("*.c\n", &["src/b.c"], &["top", "docs"]),
    ] {
        fs::write(&file, patterns).unwrap();
        succeed(&mut site.sync(&["--one-time", &flag]));
        for path in there {
            assert!(site.link().join(path).exists(), "{patterns}: {path}");
        }
        for path in not_there {
            assert!(!site.link().join(path).exists(), "{patterns}: {path}");
        }
        assert_eq!(git(&site.link(), &["status", "--porcelain"]), "", "{patterns}");
    }
    succeed(&mut site.sync(&["--one-time"]));
    assert!(site.link().join("docs/secret/x").exists());
}

#[test]
fn askpass_cookies_headers_and_an_app() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    let http = Http::serve(&site, "auth_basic x; auth_basic_user_file htpasswd;");
    let answer = |status: &'static str, body: String| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut buffer = [0; 4096];
            let read = std::io::Read::read(&mut stream, &mut buffer).unwrap();
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            std::io::Write::write_all(&mut stream, text.as_bytes()).unwrap();
            String::from_utf8_lossy(&buffer[..read]).into_owned()
        });
        (port, server)
    };
    let (port, server) = answer("200 OK", "username=user\npassword=secret word\n".to_owned());
    let flag = format!("--askpass-url=http://127.0.0.1:{port}/git_askpass");
    succeed(&mut site.sync_from(&http.url(), &["--one-time", &flag]));
    assert!(server.join().unwrap().starts_with("GET /git_askpass "));
    let (port, server) = answer("401 no", String::new());
    let flag = format!("--askpass-url=http://127.0.0.1:{port}/");
    assert_eq!(finish(&mut site.sync_from(&http.url(), &["--one-time", &flag])).status.code(), Some(1));
    server.join().unwrap();

    let header = Http::serve(&site, "if ($http_x_token != 'let me in') { return 403; }");
    assert_eq!(finish(&mut site.sync_from(&header.url(), &["--one-time"])).status.code(), Some(1));
    succeed(
        &mut site
            .sync_from(&header.url(), &["--one-time", "--git-config=http.extraHeader:X-Token: let me in"]),
    );
    let rewrite = format!(
        "--git-config-add=\"url.{}.insteadOf\":\"alias:\"",
        header.url().trim_end_matches("site.git").replace(':', "\\:").replace("\\:", ":")
    );
    succeed(&mut site.sync_from(
        "alias:site.git",
        &["--one-time", &rewrite, "--git-config=http.extraHeader:X-Token: let me in"],
    ));

    let key = site.dir.path().join("app.pem");
    run(Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048"));
    let (port, server) =
        answer("201 Created", r#"{"token":"secret word","expires_at":"2099-01-01T00:00:00Z"}"#.to_owned());
    let app = Http::serve(&site, "if ($http_authorization != 'Basic LTpzZWNyZXQgd29yZA==') { return 401; }");
    succeed(&mut site.sync_from(
        &app.url(),
        &[
            "--one-time",
            &format!("--github-base-url=http://127.0.0.1:{port}/"),
            "--github-app-application-id=7",
            "--github-app-installation-id=8",
            &format!("--github-app-private-key-file={}", key.display()),
        ],
    ));
    let request = server.join().unwrap();
    assert!(request.starts_with("POST /app/installations/8/access_tokens "), "{request}");
    let jwt = request
        .lines()
        .find_map(|line| line.strip_prefix("authorization: Bearer "))
        .unwrap()
        .trim()
        .to_owned();
    let script = "import sys,base64,subprocess,tempfile,os\n\
        h,p,s=sys.argv[1].split('.')\n\
        d=lambda t: base64.urlsafe_b64decode(t+'='*(-len(t)%4))\n\
        w=tempfile.mkdtemp(); open(w+'/m','w').write(h+'.'+p); open(w+'/s','wb').write(d(s))\n\
        subprocess.check_call(['openssl','rsa','-in',sys.argv[2],'-pubout','-out',w+'/k'],stderr=subprocess.DEVNULL)\n\
        subprocess.check_call(['openssl','dgst','-sha256','-verify',w+'/k','-signature',w+'/s',w+'/m'])\n\
        print(d(p).decode())";
    let claims = run(Command::new("python3").args(["-c", script, &jwt]).arg(&key));
    assert!(claims.contains("Verified OK") && claims.contains("\"iss\":\"7\""), "{claims}");
}

#[test]
fn tls_with_a_private_authority() {
    let site = Site::new();
    let hash = site.push(&[("a", "1")]);
    let dir = site.dir.path();
    let openssl = |arguments: &str| {
        run(Command::new("openssl").args(arguments.split(' ')).current_dir(dir));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority");
    openssl("req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=localhost");
    fs::write(dir.join("ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out tls.pem -days 2 -extfile ext",
    );
    let listen = format!("ssl_certificate {d}/tls.pem; ssl_certificate_key {d}/tls.key;", d = dir.display());
    let http = Http::serve_tls(&site, "", &listen);
    let url = http.url().replace("http:", "https:");
    let output = finish(&mut site.sync_from(&url, &["--one-time"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).to_lowercase().contains("certificate"), "{}", text(&output));
    let authority = format!("--git-config=http.sslCAInfo:{}/ca.pem", dir.display());
    succeed(&mut site.sync_from(&url, &["--one-time", &authority]));
    assert_eq!(site.published(), hash);
    // Another authority takes its place, and the server's certificate changes with it.
    let bundle = dir.join("bundle.pem");
    fs::copy(dir.join("ca.pem"), &bundle).unwrap();
    let authority = format!("--git-config=http.sslCAInfo:{}", bundle.display());
    let running = ["--period=50ms", "--max-failures=-1", "--error-file=error.json", &authority];
    let _running = support::Running::start(&mut site.sync_from(&url, &running));
    let new = site.push(&[("a", "2")]);
    eventually("the new tree", || (site.published() == new).then_some(()));
    let error = || fs::read_to_string(site.root().join("error.json")).ok();
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout k -out other.pem -subj /CN=x");
    fs::write(&bundle, "no certificate at all").unwrap();
    let newer = site.push(&[("a", "3")]);
    eventually("the newer tree", || (site.published() == newer).then_some(()));
    fs::copy(dir.join("other.pem"), &bundle).unwrap();
    eventually("a refusal", || error().filter(|text| text.to_lowercase().contains("certificate")));
    let newest = site.push(&[("a", "4")]);
    fs::copy(dir.join("ca.pem"), &bundle).unwrap();
    eventually("the newest tree", || (site.published() == newest).then_some(()));
}

#[test]
fn the_store_stays_small() {
    for (depth, mode) in [("1", "always"), ("0", "always"), ("1", "aggressive"), ("2", "off")] {
        let site = Site::new();
        let packs = || {
            let entries = fs::read_dir(site.root().join(".git/objects/pack")).unwrap();
            entries.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "pack")).count()
        };
        for round in 0..14 {
            let round = round.to_string();
            site.push(&[("a", &round), (&format!("f{round}"), &round)]);
            succeed(&mut site.sync(&[
                "--one-time",
                &format!("--depth={depth}"),
                &format!("--git-gc={mode}"),
            ]));
        }
        match mode {
            "always" => assert!(packs() < 11, "{depth} {mode}: {}", packs()),
            "aggressive" => assert_eq!(packs(), 1),
            _ => assert!(packs() >= 13),
        }
        git(&site.link(), &["fsck"]);
        assert_eq!(git(&site.link(), &["status", "--porcelain"]), "");
        let count = git(&site.link(), &["rev-list", "--count", "HEAD"]);
        assert_eq!(count.trim(), if depth == "0" { "14" } else { depth });
    }
}

#[test]
fn large_blobs_are_streamed() {
    let site = Site::new();
    let file = site.work().join("large");
    run(Command::new("sh").arg("-c").arg(format!("head -c 64000000 /dev/urandom > {}", file.display())));
    git(&site.work(), &["config", "core.bigFileThreshold", "1m"]);
    git(&site.bare(), &["config", "core.bigFileThreshold", "1m"]);
    site.commit();
    let http = Http::serve(&site, "");
    let mut command = Command::new("/bin/sh");
    let inner = format!(
        "ulimit -v 260000; exec {} --repo={} --root={} --link=link --one-time",
        support::BINARY,
        http.url(),
        site.root().display()
    );
    succeed(command.arg("-c").arg(inner));
    run(Command::new("cmp").arg(&file).arg(site.link().join("large")));
    assert_eq!(git(&site.link(), &["status", "--porcelain"]), "");
}

/// A file system of its own, small enough to fill.
#[test]
fn a_full_disk_needs_no_hand() {
    let site = Site::new();
    fs::create_dir(site.root()).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"])
        .arg(site.root())
        .output()
        .unwrap();
    assert!(mounted.status.success(), "a tmpfs is needed for this test: {}", text(&mounted));
    struct Unmount(std::path::PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).output();
        }
    }
    let _unmount = Unmount(site.root());
    let noise = |name: &str, bytes: u32| {
        let path = site.work().join(name);
        run(Command::new("sh").arg("-c").arg(format!("head -c {bytes} /dev/urandom > {}", path.display())));
        site.commit()
    };
    let good = noise("first", 1_000_000);
    succeed(&mut site.sync(&["--one-time"]));
    let free = || {
        run(Command::new("df").args(["--output=avail", "-k"]).arg(site.root()))
            .lines()
            .nth(1)
            .unwrap()
            .trim()
            .parse::<u64>()
            .unwrap()
    };
    let before = free();
    noise("second", 4_000_000);
    for _ in 0..3 {
        let output = finish(&mut site.sync(&["--one-time"]));
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(site.published(), good);
        assert!(text(&output).contains("No space left"), "{}", text(&output));
    }
    assert!(free() + 300 > before, "{} of {before} kB are free", free());
    fs::remove_file(site.work().join("second")).unwrap();
    let smaller = noise("third", 500_000);
    succeed(&mut site.sync(&["--one-time"]));
    assert_eq!(site.published(), smaller);
}

#[test]
fn volumes_of_the_peer_are_taken_over() {
    for v3 in [false, true] {
        let site = Site::new();
        let old = site.push(&[("a", "1"), ("b/c", "2")]);
        let root = site.root();
        // What kubernetes/git-sync does with the git program.
        run(Command::new("git").args(["init", "-q", "-b", "git-sync"]).arg(&root));
        git(&root, &["remote", "add", "origin", &site.url()]);
        git(&root, &["fetch", "-q", "--depth=1", "origin", "main"]);
        git(&root, &["reset", "-q", "--soft", "FETCH_HEAD"]);
        let place = if v3 { old.clone() } else { format!(".worktrees/{old}") };
        git(&root, &["worktree", "add", "-q", "--force", "--detach", &place, &old]);
        symlink(&place, site.link()).unwrap();
        let packs = || fs::read_dir(root.join(".git/objects/pack")).unwrap().count();
        succeed(&mut site.sync(&["--one-time"]));
        assert_eq!((site.published(), site.read("b/c")), (old.clone(), "2".to_owned()));
        assert!(fs::read_link(site.link()).unwrap().starts_with(".worktrees"));
        assert!(!v3 || !root.join(&old).exists());
        assert!(packs() <= 4, "a re-clone");
        let new = site.push(&[("a", "3")]);
        succeed(&mut site.sync(&["--one-time"]));
        assert_eq!((site.published(), site.read("a")), (new, "3".to_owned()));
        assert_eq!(git(&site.link(), &["status", "--porcelain"]), "");
        git(&site.link(), &["fsck"]);
    }
}

#[test]
fn half_of_a_copy_is_not_taken_for_all_of_it() {
    let site = Site::new();
    for round in 0..3 {
        site.push(&[("a", &format!("{round}")), ("b/c", &format!("{round} too"))]);
    }
    let flags = ["--one-time", "--depth=0"];
    succeed(&mut site.sync(&flags));
    // As if killed while the source's objects were copied.
    let git_dir = site.root().join(".git");
    let old = git(&site.bare(), &["rev-parse", "main~2:b"]).trim().to_owned();
    fs::remove_file(git_dir.join("objects").join(&old[..2]).join(&old[2..])).unwrap();
    fs::remove_file(git_dir.join("gitsync-depth")).unwrap();
    fs::write(git_dir.join("gitsync-copying"), "").unwrap();
    succeed(&mut site.sync(&flags));
    git(&site.link(), &["fsck"]);
    assert_eq!(git(&site.link(), &["rev-list", "HEAD"]).lines().count(), 3);
    assert!(!git_dir.join("gitsync-copying").exists());
}

#[test]
fn checkouts_beside_a_new_store_are_no_worktrees_of_it() {
    let site = Site::new();
    let flags = ["--one-time", "--stale-worktree-timeout=1h"];
    let old = site.push(&[("a", "old")]);
    succeed(&mut site.sync(&flags));
    let new = site.push(&[("a", "new")]);
    succeed(&mut site.sync(&flags));
    for pack in fs::read_dir(site.root().join(".git/objects/pack")).unwrap() {
        let path = pack.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "pack") {
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
            let mut bytes = fs::read(&path).unwrap();
            bytes[20..].fill(0);
            fs::write(&path, bytes).unwrap();
        }
    }
    succeed(&mut site.sync(&flags));
    assert_eq!((site.published(), site.read("a")), (new, "new".to_owned()));
    git(&site.link(), &["fsck"]);
    // Who still reads the old files can go on.
    assert_eq!(fs::read_to_string(site.root().join(".worktrees").join(&old).join("a")).unwrap(), "old");
    assert!(!site.root().join(".git/worktrees").join(old).exists());
}

#[test]
fn packs_that_an_interrupted_tidying_left_go_at_the_next_start() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    succeed(&mut site.sync(&["--one-time"]));
    let packs = site.root().join(".git/objects/pack");
    for extension in ["pack", "rev"] {
        fs::write(packs.join(format!("pack-old.{extension}")), "").unwrap();
    }
    fs::write(site.root().join(".git/gitsync-obsolete"), "pack-old.pack\n../../config\n").unwrap();
    succeed(&mut site.sync(&["--one-time"]));
    assert!(!packs.join("pack-old.pack").exists() && !packs.join("pack-old.rev").exists());
    assert!(site.root().join(".git/config").exists() && !site.root().join(".git/gitsync-obsolete").exists());
    git(&site.link(), &["fsck"]);
}

#[test]
fn tidying_after_an_interrupted_tidying_loses_nothing() {
    let site = Site::new();
    site.push(&[("a", "0")]);
    let packs = site.root().join(".git/objects/pack");
    let copy = site.dir.path().join("copy");
    for round in 1..4 {
        let hash = site.push(&[("a", &round.to_string())]);
        let flags = ["--one-time", "--git-gc=aggressive"];
        succeed(&mut site.sync(&flags));
        // As if killed after the new pack was written and before the old ones went.
        run(Command::new("cp").arg("-r").arg(&packs).arg(&copy));
        fs::remove_file(site.root().join(".git/refs/heads/git-sync")).unwrap();
        fs::remove_dir_all(site.root().join(".worktrees")).unwrap();
        succeed(&mut site.sync(&flags));
        run(Command::new("sh").arg("-c").arg(format!("cp -n {}/* {}", copy.display(), packs.display())));
        fs::remove_dir_all(&copy).unwrap();
        fs::create_dir_all(site.root().join(".worktrees/junk")).unwrap();
        succeed(&mut site.sync(&flags));
        assert_eq!(site.published(), hash);
        git(&site.link(), &["fsck"]);
        assert_eq!(git(&site.link(), &["status", "--porcelain"]), "");
    }
}
