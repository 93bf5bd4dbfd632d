//! Reacting at once, and reusing what didn't change: the binary against real pushes.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/pushed.rs"]
mod pushed;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use pushed::{Pushed, SECRET, TOKEN, answer, hmac, many, post};
use support::{Site, eventually, free_port, get, git, run};

#[test]
fn a_signed_push_is_live_at_once() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    let pushed = Pushed::start(site, &[]);
    // A hook of the real server sends what a forge sends, when a real push arrives over HTTP.
    let hook = pushed.site.bare().join("hooks/post-receive");
    let script = format!(
        "#!/bin/sh\nread old new ref\n\
         body=\"{{\\\"ref\\\":\\\"$ref\\\",\\\"repository\\\":{{\\\"full_name\\\":\\\"site\\\",\\\"default_branch\\\":\\\"main\\\"}},\\\"after\\\":\\\"$new\\\"}}\"\n\
         sum=$(printf %s \"$body\" | openssl dgst -sha256 -hmac \"{SECRET}\" | sed 's/.* //')\n\
         curl -sS -X POST -H \"X-Gitea-Signature: $sum\" --data-binary \"$body\" http://127.0.0.1:{}/webhook\n",
        pushed.port
    );
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    git(&pushed.site.work(), &["remote", "set-url", "origin", &pushed.http.url()]);
    for round in 2..5 {
        let hash = pushed.site.push(&[("a", &round.to_string())]);
        pushed.shows(&hash);
        assert_eq!(pushed.site.read("a"), round.to_string());
    }
    assert_eq!(pushed.metric("git_sync_push_webhooks_total{outcome=\"triggered\"}"), Some(3.0));
}

#[test]
fn what_is_not_ours_or_not_signed_starts_nothing() {
    let site = Site::new();
    let old = site.push(&[("a", "1")]);
    let pushed = Pushed::start(site, &[]);
    pushed.site.push(&[("a", "2")]);
    let event = pushed.event();
    let signed = |name: &str, body: &str| format!("{name}: {}", hmac(SECRET, body));
    let post = |path: &str, headers: &[&str], body: &str| post(pushed.port, path, headers, body).unwrap().0;
    assert_eq!(post("/webhook", &[], &event), 401);
    assert_eq!(post("/webhook", &["X-Gitlab-Token: wrong"], &event), 401);
    assert_eq!(post("/webhook", &[&format!("X-Gitea-Signature: {}", hmac("wrong", &event))], &event), 401);
    let old_time = format!("1500000000.{event}");
    let own = format!("Gitsync-Signature: {}", hmac(SECRET, &old_time));
    assert_eq!(post("/webhook", &["Gitsync-Timestamp: 1500000000", &own], &event), 401);
    let other = event.replace("site", "elsewhere");
    assert_eq!(post("/webhook", &[&signed("X-Gitea-Signature", &other)], &other), 404);
    let branch = event.replace("heads/main", "heads/dev");
    assert_eq!(post("/webhook", &[&signed("X-Gitea-Signature", &branch)], &branch), 200);
    assert_eq!(post("/webhook", &[&signed("X-Gitea-Signature", "nonsense")], "nonsense"), 400);
    // 100 MB are refused by their announcement; nobody has to send them.
    let mut large = TcpStream::connect(("127.0.0.1", pushed.port)).unwrap();
    write!(
        large,
        "POST /webhook HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: {SECRET}\r\nContent-Length: 104857600\r\n\r\n{{"
    )
    .unwrap();
    assert_eq!(answer(&mut large).unwrap().0, 413);
    // Without an announcement they are cut off at the limit.
    let mut endless = TcpStream::connect(("127.0.0.1", pushed.port)).unwrap();
    write!(
        endless,
        "POST /webhook HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: {SECRET}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .unwrap();
    let piece = format!("10000\r\n{}\r\n", "x".repeat(65_536));
    for _ in 0..1_600 {
        if endless.write_all(piece.as_bytes()).is_err() {
            break;
        }
    }
    // A body that never comes.
    let mut slow = TcpStream::connect(("127.0.0.1", pushed.port)).unwrap();
    write!(
        slow,
        "POST /webhook HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: {SECRET}\r\nContent-Length: 50\r\n\r\n{{"
    )
    .unwrap();
    for (authorization, wanted) in
        [("", 401), ("Authorization: Bearer wrong", 401), ("Authorization: Basic t0ken", 401)]
    {
        assert_eq!(
            post("/sync?wait=true", &[authorization].map(|h| if h.is_empty() { "X: y" } else { h }), ""),
            wanted
        );
    }
    assert_eq!(get(pushed.port, "/sync").unwrap().0, 405);
    assert_eq!(answer(&mut slow).unwrap().0, 408);
    for outcome in [
        "unsigned",
        "bad_signature",
        "expired",
        "other_repository",
        "ignored",
        "malformed",
        "too_large",
        "too_slow",
    ] {
        let count = pushed.metric(&format!("git_sync_push_webhooks_total{{outcome=\"{outcome}\"}}"));
        assert!(count.is_some_and(|count| count >= 1.0), "{outcome}: {count:?}");
    }
    assert_eq!(pushed.site.published(), old, "something started a sync");
    // The same delivery twice: the second one is a replay.
    assert_eq!(pushed.deliver(&event).0, 202);
    assert_eq!(pushed.deliver(&event).0, 409);
    let new = git(&pushed.site.bare(), &["rev-parse", "main"]).trim().to_owned();
    pushed.shows(&new);
}

#[test]
fn a_call_waits_and_tells_what_changed() {
    let site = Site::new();
    let old = site.push(&[("a", "1"), ("b", "1"), ("c/d", "1")]);
    let pushed = Pushed::start(site, &[]);
    fs::remove_file(pushed.site.work().join("b")).unwrap();
    let new = pushed.site.push(&[("a", "2"), ("c/e", "1")]);
    let (status, answer) = pushed.sync();
    assert_eq!((status, pushed.site.published()), (200, new.clone()));
    assert_eq!(answer["status"], "updated");
    assert_eq!((answer["old"].as_str(), answer["new"].as_str()), (Some(&old[..]), Some(&new[..])));
    let changes: Vec<_> = answer["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["path"].as_str().unwrap().to_owned(), one["change"].as_str().unwrap().to_owned()))
        .collect();
    let wanted = [("a", "modified"), ("b", "deleted"), ("c/e", "added")];
    assert_eq!(changes, wanted.map(|(path, change)| (path.to_owned(), change.to_owned())));
    assert_eq!(answer["changed_files"], 3);
    assert!(answer["duration_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(pushed.sync().1["status"], "unchanged");
    // A new token counts at once, and so does the loss of an old one.
    fs::write(pushed.site.dir.path().join("token"), "another\n").unwrap();
    assert_eq!(post(pushed.port, "/sync", &[&format!("Authorization: Bearer {TOKEN}")], "").unwrap().0, 401);
    assert_eq!(post(pushed.port, "/sync", &["Authorization: Bearer another"], "").unwrap().0, 202);
    fs::write(pushed.site.dir.path().join("token"), format!("{TOKEN}\n")).unwrap();
    fs::rename(pushed.site.bare(), pushed.site.dir.path().join("away.git")).unwrap();
    let (status, answer) = pushed.sync();
    assert_eq!((status, answer["status"].as_str()), (502, Some("failed")));
    assert!(!answer["error"].as_str().unwrap().is_empty());
    assert_eq!(pushed.site.published(), new);
}

#[test]
fn triggers_have_an_address_of_their_own_when_asked() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    let apart = free_port();
    let listen = format!("--webhook-listen=127.0.0.1:{apart}");
    let pushed = Pushed::start(site, &[&listen]);
    let authorization = format!("Authorization: Bearer {TOKEN}");
    assert_eq!(post(apart, "/sync?wait", &[&authorization], "").unwrap().0, 200);
    assert_eq!(get(apart, "/metrics").unwrap().0, 404);
    assert_eq!(post(pushed.port, "/webhook", &[], "").unwrap(), (200, String::new()), "as the peer answers");
}

/// What every path of a tree is and holds.
fn content(top: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(top).unwrap().to_owned();
            if meta.is_dir() {
                open.push(path);
            } else if meta.is_symlink() {
                found.insert(name, (0, fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()));
            } else if name != Path::new(".git") {
                found.insert(name, (meta.mode() & 0o777, fs::read(&path).unwrap()));
            }
        }
    }
    found
}

/// The published tree is what a checkout by the real git is.
fn is_the_commit(site: &Site, hash: &str) {
    assert_eq!(site.published(), hash);
    let real = tempfile::tempdir().unwrap();
    run(Command::new("git").args(["clone", "-q"]).arg(site.bare()).arg(real.path().join("x")));
    git(&real.path().join("x"), &["checkout", "-q", hash]);
    fs::remove_dir_all(real.path().join("x/.git")).unwrap();
    let (ours, real) = (content(&site.link().canonicalize().unwrap()), content(&real.path().join("x")));
    let mut differing: Vec<_> =
        ours.keys().chain(real.keys()).filter(|path| ours.get(*path) != real.get(*path)).collect();
    differing.dedup();
    differing.truncate(10);
    let of = |tree: &BTreeMap<_, (u32, Vec<u8>)>, path: &PathBuf| {
        tree.get(path).map(|(mode, bytes)| {
            (format!("{mode:o}"), String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned())
        })
    };
    let differing: Vec<_> = differing.iter().map(|path| (path, of(&ours, path), of(&real, path))).collect();
    assert!(differing.is_empty(), "tree of {hash}, ours and the real one: {differing:?}");
    assert_eq!(git(&site.link(), &["status", "--porcelain"]), "");
}

/// Inode and time of writing: a number alone may come again once its file is gone.
fn inodes(top: &Path) -> BTreeMap<PathBuf, (u64, i64)> {
    let identity = |path: &PathBuf| {
        let metadata = fs::symlink_metadata(top.join(path)).unwrap();
        (metadata.ino(), metadata.mtime_nsec())
    };
    content(top).into_keys().map(|path| (path.clone(), identity(&path))).collect()
}

#[test]
fn unchanged_files_are_reused_and_nothing_else() {
    for mode in ["auto", "hardlink", "reflink", "off"] {
        let site = Site::new();
        let first = many(&site, 300);
        let pushed = Pushed::start(site, &[&format!("--reuse={mode}")]);
        let site = &pushed.site;
        is_the_commit(site, &first);
        let mut seen = vec![inodes(&site.link().canonicalize().unwrap())];
        for round in 0..5 {
            // One of each kind: modified, new, new in a new place, deleted, a file that becomes a
            // directory and back, a mode, a link.
            let work = site.work();
            fs::write(work.join("d3/f3"), format!("changed {round}")).unwrap();
            fs::write(work.join(format!("d4/new{round}")), "new").unwrap();
            fs::remove_file(work.join(format!("d5/f{}", 5 + 20 * round))).unwrap();
            let shape = work.join("shape");
            let _ = fs::remove_file(&shape);
            let _ = fs::remove_dir_all(&shape);
            if round % 2 == 0 {
                fs::create_dir_all(shape.join("deep")).unwrap();
                fs::write(shape.join("deep/er"), "x").unwrap();
            } else {
                fs::write(&shape, "x").unwrap();
            }
            fs::set_permissions(work.join("run"), fs::Permissions::from_mode(0o644 | (0o111 * (round % 2))))
                .unwrap();
            fs::remove_file(work.join("up")).unwrap();
            symlink(format!("d1/f{}", 1 + 20 * round), work.join("up")).unwrap();
            let hash = site.commit();
            assert_eq!(pushed.sync().1["status"], "updated", "{mode} {round}");
            is_the_commit(site, &hash);
            let now = inodes(&site.link().canonicalize().unwrap());
            let same =
                seen.iter().map(|old| now.iter().filter(|(p, inode)| old.get(*p) == Some(inode)).count());
            let same = same.max().unwrap();
            match mode {
                // The first update has no spare yet.
                "auto" if round > 0 => assert!(same > 270, "{mode} {round}: {same}"),
                "hardlink" => assert!(same > 270, "{mode} {round}: {same}"),
                "off" => assert!(same < 50, "{mode} {round}: {same}"),
                _ => {}
            }
            seen.push(now);
            eventually("replaced checkouts out of sight", || {
                (fs::read_dir(site.root().join(".worktrees")).unwrap().count() == 1).then_some(())
            });
        }
        let reused = pushed.metric("git_sync_reused_files_total").unwrap();
        match mode {
            "auto" => assert!(reused > 4.0 * 270.0, "{reused}"),
            "hardlink" => assert!(reused > 5.0 * 270.0, "{reused}"),
            "off" => assert!(reused < 1.0, "{reused}"),
            _ => {}
        }
    }
}

#[test]
fn whatever_is_done_to_an_old_tree_the_new_one_is_the_commit() {
    for mode in ["auto", "hardlink", "reflink"] {
        // A tmpfs doesn't tell of writes through a mapping.
        let site = Site::on_disk();
        many(&site, 200);
        // Old trees stay for a while, so that there is something to do things to.
        let pushed = Pushed::start(site, &[&format!("--reuse={mode}"), "--stale-worktree-timeout=1s"]);
        let site = &pushed.site;
        let mut held = Vec::new();
        for round in 0..3 {
            let tree = site.link().canonicalize().unwrap();
            // Same size, and the old time put back: only the time of change tells.
            let edited = tree.join("d1/f1");
            let before = fs::metadata(&edited).unwrap();
            let mut file = fs::OpenOptions::new().write(true).open(&edited).unwrap();
            file.write_all(b"#").unwrap();
            file.set_times(fs::FileTimes::new().set_modified(before.modified().unwrap())).unwrap();
            held.push(fs::OpenOptions::new().write(true).open(tree.join("d2/f2")).unwrap());
            // Through a mapping, through another name outside, shortened, exchanged for a copy.
            let mapped = "import mmap, sys\nf = open(sys.argv[1], 'r+b')\nm = mmap.mmap(f.fileno(), 0)\nm[0:1] = b'#'\n";
            run(Command::new("python3").arg("-c").arg(mapped).arg(tree.join("d11/f11")));
            let outside = site.dir.path().join(format!("outside{round}"));
            fs::hard_link(tree.join("d12/f12"), &outside).unwrap();
            fs::OpenOptions::new().write(true).open(&outside).unwrap().write_all(b"#").unwrap();
            fs::hard_link(tree.join("d13/f13"), site.dir.path().join(format!("silent{round}"))).unwrap();
            fs::OpenOptions::new().write(true).open(tree.join("d14/f14")).unwrap().set_len(3).unwrap();
            fs::copy(tree.join("d15/f15"), tree.join("d15/copy")).unwrap();
            fs::rename(tree.join("d15/copy"), tree.join("d15/f15")).unwrap();
            fs::rename(tree.join("d16"), tree.join("moved")).unwrap();
            fs::set_permissions(tree.join("d17"), fs::Permissions::from_mode(0o700)).unwrap();
            fs::write(tree.join("d6/stranger"), "x").unwrap();
            fs::create_dir_all(tree.join("more/strangers")).unwrap();
            fs::set_permissions(tree.join("d7/f7"), fs::Permissions::from_mode(0o600)).unwrap();
            fs::remove_file(tree.join("d8/f8")).unwrap();
            fs::remove_dir_all(tree.join("d9")).unwrap();
            symlink("/etc", tree.join("d9")).unwrap();
            let hash = site.push(&[("d3/f3", &round.to_string())]);
            assert_eq!(pushed.sync().1["status"], "updated");
            is_the_commit(site, &hash);
            assert_eq!(fs::metadata(site.link().join("d17")).unwrap().mode() & 0o777, 0o755);
            // Somebody writes through the old tree, through another name of a file of it, and through files
            // opened long ago, after the switch.
            let silent =
                fs::OpenOptions::new().write(true).open(site.dir.path().join(format!("silent{round}")));
            silent.unwrap().write_all(b"late").unwrap();
            fs::write(tree.join("d10/f10"), "late").ok();
            for file in &mut held {
                file.write_all(b"held").unwrap();
            }
            eventually("the repair", || {
                pushed.sync();
                let git =
                    Command::new("git").arg("-C").arg(site.link()).args(["diff", "--quiet", "HEAD"]).status();
                git.unwrap().success().then_some(())
            });
            is_the_commit(site, &hash);
            let aged = SystemTime::now();
            eventually("the end of the old tree", || {
                aged.elapsed().ok().filter(|age| *age > Duration::from_millis(1_050))
            });
        }
    }
}

/// Git trusts a file's times only if they are of an earlier second than its index is.
#[test]
fn git_sees_a_change_that_a_repair_of_another_file_left() {
    let site = Site::new();
    site.push(&[("seen", "0"), ("silent", "0")]);
    let pushed = Pushed::start(site, &[]);
    let site = &pushed.site;
    let second = |path: &Path| fs::metadata(path).unwrap().mtime();
    let status = || git(&site.link(), &["status", "--porcelain"]);
    for round in 1..20 {
        let hash = site.push(&[("seen", &round.to_string()), ("silent", &round.to_string())]);
        eventually("the first half of a second", || {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            (now.subsec_millis() < 500).then_some(())
        });
        pushed.sync();
        assert_eq!(site.published(), hash);
        // The kernel tells of a change by the name it was made through.
        let (silent, outside) = (site.link().join("silent"), site.dir.path().join(format!("name{round}")));
        let written = second(&silent);
        fs::hard_link(&silent, &outside).unwrap();
        fs::OpenOptions::new().write(true).open(&outside).unwrap().write_all(b"#").unwrap();
        fs::write(site.link().join("seen"), "#").unwrap();
        if second(&silent) != written {
            continue;
        }
        std::thread::sleep(Duration::from_secs(1));
        pushed.sync();
        assert_eq!((site.read("seen"), status()), (round.to_string(), " M silent\n".to_owned()));
        eventually("the repair", || {
            pushed.sync();
            (site.read("silent") == round.to_string()).then_some(())
        });
        assert_eq!(status(), "");
        return;
    }
    panic!("never changed in the second of its writing");
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    let site = Site::new();
    for (arguments, wanted) in [
        (&["--webhook-listen=:1"][..], "--push-webhook-secret-file"),
        (&["--api-token-file=/x"], "--webhook-listen or --http-bind"),
        (&["--api-token-file=/x", "--http-bind=:1", "--one-time"], "--one-time"),
        (&["--reuse=some"], "auto, reflink, hardlink, off"),
        (&["--period-jitter=200"], "percent"),
        (&["--max-period=1s"], "--period"),
        (&["--push-webhook-path=x"], "must begin with /"),
    ] {
        let output = support::finish(&mut site.sync(arguments));
        assert!(!output.status.success(), "{arguments:?}");
        assert!(support::text(&output).contains(wanted), "{arguments:?}: {}", support::text(&output));
    }
}

/// Takes requests and answers 200; gives heads and bodies.
fn receiver() -> (u16, std::sync::mpsc::Receiver<(String, String)>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, requests) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut text, mut buffer) = (String::new(), [0; 4_096]);
            loop {
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                        let _ = sender.send((head.to_owned(), body.to_owned()));
                        break;
                    }
                }
                match stream.read(&mut buffer) {
                    Ok(read @ 1..) => text.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
                    _ => break,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (port, requests)
}

#[test]
fn hooks_requests_and_listeners_are_told_what_changed() {
    let site = Site::new();
    let old = site.push(&[("a", "1"), ("b", "1"), ("odd\nname", "1")]);
    let seen = site.dir.path().join("seen");
    for (name, out) in [("gate", "gate"), ("after", "after")] {
        let path = site.dir.path().join(name);
        let script = format!(
            "#!/bin/sh\n[ -n \"$GITSYNC_OLD_HASH\" ] || exit 0\n\
             {{ echo \"$GITSYNC_OLD_HASH $GITSYNC_HASH $GITSYNC_CHANGED_FILES $GITSYNC_CHANGES_COMPLETE\"\n\
             echo \"$GITSYNC_COMMIT_AUTHOR/$GITSYNC_COMMIT_SUBJECT\"; cat \"$GITSYNC_CHANGES_FILE\"; }} > {}.{out}.new\n\
             mv {0}.{out}.new {0}.{out}\n",
            seen.display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(site.dir.path().join("key"), "outgoing key\n").unwrap();
    let ((one, requests), (two, more)) = (receiver(), receiver());
    let directory = site.dir.path().display().to_string();
    let arguments = [
        format!("--pre-publish-exechook-command={directory}/gate"),
        format!("--exechook-command={directory}/after"),
        format!("--webhook-url=http://127.0.0.1:{one}/purge"),
        format!("--webhook-extra-url=http://127.0.0.1:{two}/other"),
        "--webhook-header=X-Site: mine".to_owned(),
        "--webhook-body=json".to_owned(),
        format!("--webhook-hmac-secret-file={directory}/key"),
        "--webhook-timeout=20s".to_owned(),
        "--http-events".to_owned(),
    ];
    let pushed = Pushed::start(site, &arguments.iter().map(|text| &text[..]).collect::<Vec<_>>());
    let site = &pushed.site;
    for requests in [&requests, &more] {
        let (head, _) = requests.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(head.contains(&old), "the first publication: {head}");
    }
    let mut events = TcpStream::connect(("127.0.0.1", pushed.port)).unwrap();
    events.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(events, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut stream = String::new();
    let mut hear = |wanted: &str| {
        let mut buffer = [0; 4_096];
        while !stream.contains(wanted) {
            let read = events.read(&mut buffer).unwrap();
            assert!(read > 0, "the stream ended");
            stream.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    };
    hear(&format!("id: {old}"));
    fs::remove_file(site.work().join("b")).unwrap();
    fs::write(site.work().join("odd\nname"), "2").unwrap();
    fs::write(site.work().join("new"), "2").unwrap();
    git(&site.work(), &["add", "-A"]);
    git(&site.work(), &["commit", "-q", "-m", "the subject", "-m", "more"]);
    git(&site.work(), &["push", "-q", "origin", "HEAD:main"]);
    let new = git(&site.work(), &["rev-parse", "HEAD"]).trim().to_owned();
    assert_eq!(pushed.sync().1["changed_files"], 3);
    let wanted = format!("{old} {new} 3 true\nT <t@localhost>/the subject\nD\0b\0A\0new\0M\0odd\nname\0");
    for out in ["gate", "after"] {
        let path = site.dir.path().join(format!("seen.{out}"));
        assert_eq!(eventually("the program", || fs::read_to_string(&path).ok()), wanted, "{out}");
    }
    hear(&format!("id: {new}"));
    for (path, requests) in [("/purge", &requests), ("/other", &more)] {
        let (head, body) = requests.recv_timeout(Duration::from_secs(30)).unwrap();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        assert!(head.starts_with(&format!("POST {path} ")), "{head}");
        assert_eq!((header("gitsync-hash: "), header("x-site: ")), (new.clone(), "mine".to_owned()));
        let signed = format!("{}.{body}", header("gitsync-timestamp: "));
        assert_eq!(header("gitsync-signature: "), format!("sha256={}", hmac("outgoing key", &signed)));
        let told: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((told["old"].as_str(), told["new"].as_str()), (Some(&old[..]), Some(&new[..])));
        assert_eq!(told["commit"]["author"]["email"], "t@localhost");
        assert_eq!(told["commit"]["subject"], "the subject");
        assert_eq!(told["changes"][2]["path"], "odd\nname");
    }
    let status: serde_json::Value =
        serde_json::from_str(&get(pushed.port, "/status.json").unwrap().1).unwrap();
    assert_eq!(
        (status["details"]["new"].as_str(), &status["details"]["changed_files"]),
        (Some(&new[..]), &3.into())
    );
}
