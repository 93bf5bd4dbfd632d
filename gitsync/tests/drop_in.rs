//! What somebody who comes from kubernetes/git-sync counts on, seen from outside.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::proxy::Proxy;
use support::{BINARY, Http, Running, Site, eventually, finish, free_port, get, git, run, succeed, text};

fn script(site: &Site, name: &str, body: &str) -> PathBuf {
    let path = site.dir.path().join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn checkout(site: &Site, hash: &str) -> PathBuf {
    site.root().join(".worktrees").join(hash)
}

fn age(path: &Path, seconds: u32) {
    run(Command::new("touch").arg(format!("--date={seconds} seconds ago")).arg(path));
}

#[test]
fn replaced_checkouts_stay_for_their_time_and_go_without_an_update() {
    let site = Site::new();
    let first = site.push(&[("a", "1")]);
    succeed(&mut site.sync(&["--one-time"]));
    age(&checkout(&site, &first), 3_600);
    let second = site.push(&[("a", "2")]);
    // The timer starts when it is replaced, by whichever process.
    succeed(&mut site.sync(&["--one-time", "--stale-worktree-timeout=10m"]));
    assert!(checkout(&site, &first).join("a").exists());
    assert_eq!(site.published(), second);
    let _process = Running::start(&mut site.sync(&["--period=20ms", "--stale-worktree-timeout=10m"]));
    let third = site.push(&[("a", "3")]);
    eventually("the update", || (site.published() == third).then_some(()));
    fs::create_dir(site.root().join(".worktrees/junk")).unwrap();
    for path in [checkout(&site, &first), site.root().join(".worktrees/junk")] {
        age(&path, 601);
        eventually("the removal of what is stale", || (!path.exists()).then_some(()));
    }
    assert!(checkout(&site, &second).join("a").exists());
}

#[test]
fn drift_in_a_large_tree_is_found_at_the_next_poll() {
    let site = Site::new();
    let names: Vec<String> = (0..3_000).map(|n| format!("d{}/e{}/f{n}", n % 7, n % 50)).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (&name[..], "text")).collect();
    site.push(&files);
    let mut process = Running::start(&mut site.sync(&["--period=1h", "--sync-on-signal=HUP"]));
    let touched = |name: &str| site.link().join(name);
    eventually("the first sync", || touched(&names[2_999]).exists().then_some(()));
    // One poll each, told by a signal: the first looks at 500 files, wherever the change is.
    fs::write(touched(&names[2_999]), "edited").unwrap();
    fs::remove_file(touched(&names[1_500])).unwrap();
    fs::rename(site.link().join("d3"), site.dir.path().join("taken")).unwrap();
    eventually("the repair", || {
        process.signal("HUP");
        let good = |name: &String| fs::read_to_string(touched(name)).is_ok_and(|text| text == "text");
        names.iter().all(good).then_some(())
    });
    process.signal("TERM");
    assert_eq!(process.wait(Duration::from_secs(10)), Some(0));
}

#[test]
fn what_nobody_needs_leaves_the_store() {
    let site = Site::new();
    let big = |seed: u32| -> String {
        let next = |n: &mut u32| {
            *n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b' ' + u8::try_from(*n >> 24).unwrap() % 90)
        };
        let mut state = seed;
        (0..3 << 20).map(|_| next(&mut state)).collect()
    };
    let packs = || -> u64 {
        let said = run(Command::new("du").args(["-sb"]).arg(site.root().join(".git/objects")));
        said.split_whitespace().next().unwrap().parse().unwrap()
    };
    let small = site.push(&[("a", "1")]);
    let middle = site.push(&[("one", &big(1))]);
    let all = site.push(&[("two", &big(2))]);
    let depth = |commit: &str| git(&checkout(&site, commit), &["rev-list", "--count", "HEAD"]);
    succeed(&mut site.sync(&["--one-time", "--depth=0", &format!("--ref={all}")]));
    let full = packs();
    succeed(&mut site.sync(&["--one-time", &format!("--ref={middle}")]));
    assert!(packs() < full * 2 / 3, "{} of {full}", packs());
    assert_eq!(depth(&middle).trim(), "1");
    succeed(&mut site.sync(&["--one-time", &format!("--ref={small}")]));
    assert!(packs() < 100_000, "{}", packs());
    // With all history, what a rewound branch left behind goes; what history needs stays.
    succeed(&mut site.sync(&["--one-time", "--depth=0"]));
    git(&site.work(), &["reset", "-q", "--hard", &middle]);
    site.push(&[("a", "2")]);
    succeed(&mut site.sync(&["--one-time", "--depth=0"]));
    assert!(packs() < full * 2 / 3, "{} of {full}", packs());
    assert_eq!(git(&site.link(), &["rev-list", "--count", "HEAD"]).trim(), "3");
    git(&site.link(), &["fsck", "--full"]);
}

#[test]
fn a_rewound_branch_has_the_depth_that_was_asked_for() {
    let site = Site::new();
    for n in 0..6 {
        site.push(&[("a", &n.to_string())]);
    }
    succeed(&mut site.sync(&["--one-time", "--depth=3"]));
    git(&site.work(), &["reset", "-q", "--hard", "HEAD~2"]);
    git(&site.work(), &["push", "-q", "-f", "origin", "HEAD:main"]);
    succeed(&mut site.sync(&["--one-time", "--depth=3"]));
    assert_eq!(site.read("a"), "3");
    assert_eq!(git(&site.link(), &["rev-list", "--count", "HEAD"]).trim(), "3");
    git(&site.link(), &["fsck"]);
}

#[test]
fn a_hook_ends_with_all_that_it_started() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    let note = site.dir.path().join("pid");
    // The grandchild keeps the pipe open and would run for long.
    let body = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", note.display());
    let hook = script(&site, "hangs", &body);
    let flag = format!("--exechook-command={}", hook.display());
    let output = finish(&mut site.sync(&["--one-time", &flag, "--exechook-timeout=1s"]));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let pid = fs::read_to_string(&note).unwrap();
    let gone = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.map_or(true, |stat| stat.rsplit(')').next().unwrap().trim_start().starts_with('Z')).then_some(())
    };
    eventually("the grandchild's end", gone);
    // One that leaves something running on purpose has ended, whatever holds its output.
    let body = format!("sleep 1000 & echo $! > {}; exit 0", note.display());
    let hook = script(&site, "leaves", &body);
    succeed(&mut site.sync(&["--one-time", &format!("--exechook-command={}", hook.display())]));
    run(Command::new("kill").arg(fs::read_to_string(&note).unwrap().trim()));
}

#[test]
fn git_in_a_hook_sees_the_settings() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    let body = "git config --get-all safe.directory > seen; git config sect.key >> seen; git archive HEAD | tar -t >> seen";
    let hook = script(&site, "asks", body);
    let flag = format!("--exechook-command={}", hook.display());
    succeed(&mut site.sync(&["--one-time", &flag, "--git-config=sect.key:a value"]));
    assert_eq!(site.read("seen"), "*\na value\na\n");
}

#[test]
#[ignore = "needs root for a small file system, nginx and fcgiwrap"]
fn a_blob_larger_than_the_volume_is_refused_before_it_fills_it() {
    let site = Site::new();
    fs::create_dir(site.root()).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(site.root()));
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).output();
        }
    }
    let _unmount = Unmount(site.root());
    let good = site.push(&[("a", "1")]);
    let http = Http::serve(&site, "");
    succeed(&mut site.sync_from(&http.url(), &["--one-time"]));
    let free = || -> u64 {
        let said = run(Command::new("df").args(["--output=avail", "-k"]).arg(site.root()));
        said.lines().nth(1).unwrap().trim().parse().unwrap()
    };
    let (before, lowest) = (free(), std::sync::atomic::AtomicU64::new(u64::MAX));
    // Some kilobytes in a pack.
    fs::File::create(site.work().join("bomb")).unwrap().set_len(64 << 20).unwrap();
    site.commit();
    let mut process = Running::start(&mut site.sync_from(&http.url(), &["--one-time"]));
    let status = eventually("the end", || {
        lowest.fetch_min(free(), std::sync::atomic::Ordering::Relaxed);
        process
            .wait(Duration::ZERO)
            .or_else(|| process.0.try_wait().unwrap().and_then(|status| status.code()))
    });
    assert_eq!(status, 1);
    assert!(lowest.into_inner() + 2_048 > before);
    assert_eq!((site.published(), site.read("a")), (good, "1".to_owned()));
}

#[test]
fn log_lines_have_the_shape_of_git_sync() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    let lines = |output: &std::process::Output| -> Vec<serde_json::Value> {
        String::from_utf8_lossy(&output.stderr).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let good = finish(&mut site.sync(&["--one-time", "-v=6"]));
    for line in lines(&good) {
        assert!(line["ts"].as_str().unwrap().len() == 26 && line["level"].is_u64(), "{line}");
        assert!(line["caller"]["file"].is_string() && line["caller"]["line"].is_u64(), "{line}");
        assert!(line["msg"].is_string() && line["logger"] == "", "{line}");
    }
    for (level, asked, answered) in
        [("1", false, false), ("4", false, false), ("5", true, false), ("6", true, true)]
    {
        site.push(&[("a", level)]);
        let output = text(&finish(&mut site.sync(&["--one-time", &format!("-v={level}")])));
        assert!(output.contains("checked out"), "{level}: {output}");
        assert_eq!(output.contains("asking for refs"), asked, "{level}: {output}");
        assert_eq!(output.contains("\"a ref\""), answered, "{level}: {output}");
    }
    let updated = |line: &serde_json::Value| line["msg"] == "updated successfully";
    let updated = lines(&good).into_iter().find(updated).unwrap();
    assert!(updated["ref"] == "HEAD" && updated["remote"].as_str().unwrap().len() == 40, "{updated}");
    let starting = &lines(&good)[0];
    assert_eq!(starting["msg"], "starting up");
    assert!(
        ["version", "pid", "uid", "gid", "home"].iter().all(|key| !starting[key].is_null()),
        "{starting}"
    );
    let bad = finish(&mut site.sync(&["--one-time", "--ref=none"]));
    let error = lines(&bad).into_iter().find(|line| !line["error"].is_null()).unwrap();
    assert!(
        error["level"].is_null() && error["error"].as_str().unwrap().contains("couldn't find remote ref")
    );
    assert_eq!((&error["msg"], &error["failCount"]), (&"too many failures, aborting".into(), &1.into()));
}

#[test]
fn git_settings_count_or_are_named() {
    let site = Site::new();
    site.push(&[("a.txt", "1\n"), ("b.bin", "1\n"), (".gitattributes", "*.bin binary\n")]);
    succeed(&mut site.sync(&["--one-time"]));
    assert_eq!(site.read("a.txt"), "1\n");
    succeed(&mut site.sync(&["--one-time", "--git-config=core.autocrlf:true"]));
    assert_eq!((site.read("a.txt"), site.read("b.bin")), ("1\r\n".to_owned(), "1\n".to_owned()));
    assert_eq!(git(&site.link(), &["status", "--porcelain"]), "");
    let output = finish(&mut site.sync(&["--one-time", "--git-config=gc.auto:0,core.sshCommand:ssh -v"]));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(site.read("a.txt"), "1\n");
    let said = text(&output);
    assert!(said.contains("core.sshcommand") && !said.contains("gc.auto"), "{said}");
    let output = finish(&mut site.sync(&["--one-time", "--git-config=protocol.file.allow:never"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("protocol.file.allow"), "{}", text(&output));
}

#[test]
#[ignore = "needs nginx and fcgiwrap"]
fn remotes_behind_a_proxy() {
    let site = Site::new();
    let hash = site.push(&[("a", "1")]);
    let http = Http::serve(&site, "");
    let through = |proxy: &Proxy, flags: &[&str], variables: &[(&str, String)]| {
        let _ = fs::remove_dir_all(site.root());
        let mut command = site.sync_from(&http.url(), &["--one-time"]);
        command.args(flags).envs(variables.iter().map(|(name, value)| (name, value)));
        succeed(&mut command);
        assert_eq!(site.published(), hash);
        proxy.asked()
    };
    let proxy = Proxy::start();
    let address = format!("http://us:pass@127.0.0.1:{}", proxy.port);
    let asked = through(&proxy, &[], &[("http_proxy", address.clone())]);
    assert!(asked[0].starts_with("GET http://127.0.0.1:"), "{asked:?}");
    assert!(asked.iter().all(|head| head.to_lowercase().contains("proxy-authorization: basic dxm6cgfzcw==")));
    let none = Proxy::start();
    let exceptions = [("http_proxy", address.clone()), ("no_proxy", "127.0.0.1".to_owned())];
    assert!(through(&none, &[], &exceptions).is_empty());
    let setting = Proxy::start();
    let flag = format!("--git-config=http.proxy:socks5h://127.0.0.1:{}", setting.port);
    let asked = through(&setting, &[&flag], &[("http_proxy", "http://127.0.0.1:1".to_owned())]);
    assert_eq!(asked[0], format!("SOCKS 127.0.0.1:{}", http.port));
    let direct = ["--git-config-add=\"http.http://127.0.0.1.proxy\":\"\""];
    let output = site.sync_from(&http.url(), &direct).arg("--one-time").output().unwrap();
    // A pattern without the port is for port 80.
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
#[ignore = "needs nginx and fcgiwrap"]
fn certificates_are_checked_unless_told_otherwise() {
    let site = Site::new();
    let hash = site.push(&[("a", "1")]);
    let dir = site.dir.path();
    let new = [
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k.pem", "-out", "c.pem", "-subj",
        "/CN=x",
    ];
    run(Command::new("openssl").args(new).current_dir(dir));
    let listen = format!("ssl_certificate {d}/c.pem; ssl_certificate_key {d}/k.pem;", d = dir.display());
    let http = Http::serve_tls(&site, "", &listen);
    let url = http.url().replace("http:", "https:");
    let proxy = Proxy::start();
    let scoped = format!("--git-config=\"http.https://127.0.0.1:{}/.sslVerify\":false", http.port);
    let other = "--git-config=\"http.https://elsewhere/.sslVerify\":false".to_owned();
    assert_eq!(finish(&mut site.sync_from(&url, &["--one-time", &other])).status.code(), Some(1));
    let mut tunnelled = site.sync_from(&url, &["--one-time", &scoped]);
    succeed(tunnelled.env("HTTPS_PROXY", format!("http://127.0.0.1:{}", proxy.port)));
    assert_eq!(site.published(), hash);
    assert!(proxy.asked()[0].starts_with(&format!("CONNECT 127.0.0.1:{} ", http.port)));
    let mut variable = site.sync_from(&url, &["--one-time"]);
    succeed(variable.env("GIT_SSL_NO_VERIFY", "true"));
}

/// A process namespace of its own, where the program is what a container starts first.
#[test]
#[ignore = "needs root for a process namespace"]
fn as_the_first_process_it_buries_orphans_and_obeys() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    let note = site.dir.path().join("orphan");
    let hook = script(&site, "forks", &format!("(true & echo ran > {}) &", note.display()));
    let port = free_port();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", BINARY]);
    command.arg(format!("--repo={}", site.url())).arg(format!("--root={}", site.root().display()));
    command.args(["--link=link", "--period=50ms"]).arg(format!("--http-bind=127.0.0.1:{port}"));
    command.arg(format!("--exechook-command={}", hook.display()));
    let mut outside = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    eventually("the hook", || note.exists().then_some(()));
    let outside_pid = outside.0.id();
    let inside = eventually("the process inside", || {
        let children = format!("/proc/{outside_pid}/task/{outside_pid}/children");
        fs::read_to_string(children).ok()?.split_whitespace().next().map(str::to_owned)
    });
    eventually("no child, dead or alive", || {
        let tasks = fs::read_dir(format!("/proc/{inside}/task")).ok()?;
        let children = tasks.flatten().map(|task| fs::read_to_string(task.path().join("children")));
        children.flatten().all(|text| text.trim().is_empty()).then_some(())
    });
    assert_eq!(get(port, "/livez").unwrap().0, 200);
    run(Command::new("kill").args(["-TERM", &inside]));
    assert_eq!(outside.wait(Duration::from_secs(10)), Some(0));
}

#[test]
fn a_configuration_error_is_written_where_nothing_is_yet() {
    let site = Site::new();
    let output = finish(&mut site.sync(&["--depth=-1", "--error-file=error"]));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let written = fs::read_to_string(site.root().join("error")).unwrap();
    assert!(written.contains("--depth: must be 0 or more"), "{written}");
    // What fails before the first attempt is an error like any other.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = format!("--http-bind={}", address.local_addr().unwrap());
    assert_eq!(finish(&mut site.sync(&[&bind, "--error-file=d/error"])).status.code(), Some(1));
    let written = fs::read_to_string(site.root().join("d/error")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert!(written["Err"].as_str().unwrap().contains("Address already in use"), "{written}");
    assert!(written["Msg"].is_string() && written["Args"].is_object(), "{written}");
}

#[test]
fn a_hook_that_says_no_is_asked_again_and_ends_only_one_time_work() {
    let site = Site::new();
    let hash = site.push(&[("a", "1")]);
    let asked = site.dir.path().join("asked");
    let times = || fs::read_to_string(&asked).map_or(0, |text| text.lines().count());
    let body = format!("echo >> {0}; test $(wc -l < {0}) -ge 3", asked.display());
    let hook = format!("--pre-publish-exechook-command={}", script(&site, "asks", &body).display());
    let flags = [&hook, "--pre-publish-exechook-backoff=1s", "--period=20ms", "--max-failures=1"];
    let mut process = Running::start(&mut site.sync(&flags));
    eventually("the third question", || (site.link().exists() && site.published() == hash).then_some(()));
    assert_eq!(times(), 3);
    process.signal("TERM");
    assert_eq!(process.wait(Duration::from_secs(10)), Some(0));
    fs::remove_file(&asked).unwrap();
    site.push(&[("a", "2")]);
    let output = finish(&mut site.sync(&["--one-time", "--max-failures=5", "--period=20ms", &hook]));
    assert_eq!((output.status.code(), times()), (Some(1), 1), "{}", text(&output));
    assert_eq!(site.published(), hash);
}

#[test]
fn hooks_are_told_before_the_tidying() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    succeed(&mut site.sync(&["--one-time"]));
    site.push(&[("a", "2")]);
    let said = text(&finish(&mut site.sync(&["--one-time", "-v=6", "--exechook-command=true"])));
    let at = |what: &str| said.find(what).unwrap_or_else(|| panic!("no {what} in {said}"));
    assert!(at("\"published\"") < at("running a program"), "{said}");
    assert!(at("running a program") < at("removed replaced checkouts"), "{said}");
}

#[test]
fn a_signal_that_means_sync_doesnt_end_the_process() {
    let site = Site::new();
    for (ours, other) in [("TERM", "INT"), ("INT", "TERM")] {
        let _ = fs::remove_dir_all(site.root());
        let first = site.push(&[("a", ours)]);
        let flag = format!("--sync-on-signal=SIG{ours}");
        let mut process = Running::start(&mut site.sync(&["--period=1h", &flag, "--touch-file=touched"]));
        eventually("the first sync", || site.root().join("touched").exists().then_some(()));
        assert_eq!(site.published(), first);
        let second = site.push(&[("a", "2")]);
        process.signal(ours);
        eventually("the update", || (site.published() == second).then_some(()));
        process.signal(other);
        assert_eq!(process.wait(Duration::from_secs(10)), Some(0));
    }
}

#[test]
fn a_bad_variable_ends_it_before_anything_else() {
    let status = |variables: &[(&str, &str)], flags: &[&str]| {
        let mut command = Command::new(support::BINARY);
        let output = finish(command.args(flags).envs(variables.iter().copied()));
        (output.status.code(), text(&output))
    };
    for (name, value) in [
        ("GITSYNC_DEPTH", "x"),
        ("GITSYNC_DEPTH", ""),
        ("GIT_SYNC_DEPTH", "1.5"),
        ("GITSYNC_PERIOD", "5"),
        ("GITSYNC_ONE_TIME", "yes"),
        ("GIT_SYNC_WAIT", "5s"),
        ("GIT_SYNC_TIMEOUT", "5s"),
        ("GITSYNC_VERBOSE", "much"),
        ("GIT_KNOWN_HOSTS", "off"),
        ("GITSYNC_GITHUB_APP_INSTALLATION_ID", "me"),
    ] {
        for flags in [&["--version"][..], &["--help"], &["--man"], &["--no-such-flag"], &["--depth=1"]] {
            let (code, said) = status(&[(name, value)], flags);
            assert_eq!(code, Some(1), "{name}={value} {flags:?}: {said}");
            assert!(said.contains(name) && said.lines().count() == 1, "{said}");
        }
    }
    // The older one wins, so only it has to be readable; names that never were any are passed over.
    let good = [
        ("GIT_SYNC_DEPTH", "0x1"),
        ("GITSYNC_DEPTH", "x"),
        ("GITSYNC_TIMEOUT", "x"),
        ("GITSYNC_SSH", "x"),
        ("GITSYNC_MAN", "x"),
    ];
    assert_eq!(status(&good, &["--version"]).0, Some(0));
    for flag in ["--verbose=x", "--depth=", "--period=", "--max-failures=", "--wait="] {
        let (code, said) = status(&[], &[flag, "--repo=/x", "--root=/x"]);
        assert_eq!(code, Some(2), "{flag}: {said}");
    }
}

/// What airflow's chart sets, old names and new ones at once.
#[test]
fn doubled_variables_of_airflow() {
    let site = Site::new();
    let hash = site.push(&[("dags/a.py", "1")]);
    git(&site.bare(), &["branch", "v2", "main"]);
    site.push(&[("dags/a.py", "2")]);
    let (url, root) = (site.url(), site.root().display().to_string());
    let variables = [
        ("GIT_SYNC_REV", "HEAD"),
        ("GITSYNC_REF", "main"),
        ("GIT_SYNC_BRANCH", "v2"),
        ("GIT_SYNC_REPO", &url),
        ("GITSYNC_REPO", "file:///nowhere"),
        ("GIT_SYNC_DEPTH", "1"),
        ("GITSYNC_DEPTH", "2"),
        ("GIT_SYNC_ROOT", &root),
        ("GITSYNC_ROOT", "/nowhere"),
        ("GIT_SYNC_DEST", "link"),
        ("GITSYNC_LINK", "other"),
        ("GIT_SYNC_ADD_USER", "true"),
        ("GITSYNC_ADD_USER", "true"),
        ("GIT_SYNC_WAIT", "60"),
        ("GITSYNC_PERIOD", "5s"),
        ("GIT_SYNC_MAX_SYNC_FAILURES", "0"),
        ("GITSYNC_MAX_FAILURES", "0"),
        ("GIT_SYNC_SSH", "true"),
        ("GITSYNC_SSH", "true"),
        ("GIT_SYNC_SSH_KEY_FILE", "/etc/git-secret/ssh"),
        ("GITSYNC_SSH_KEY_FILE", "/etc/git-secret/ssh"),
        ("GIT_KNOWN_HOSTS", "false"),
        ("GITSYNC_SSH_KNOWN_HOSTS", "false"),
        ("GIT_SYNC_ONE_TIME", "true"),
        ("GITSYNC_ONE_TIME", "true"),
    ];
    let output = finish(Command::new(support::BINARY).envs(variables));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!((site.published(), site.read("dags/a.py")), (hash, "1".to_owned()));
    assert!(text(&output).contains("GIT_SYNC_DEPTH wins"), "{}", text(&output));
    for (old, new) in [("DEPTH", "DEPTH"), ("WAIT", "PERIOD"), ("MAX_SYNC_FAILURES", "MAX_FAILURES")] {
        let advice = format!("Env GIT_SYNC_{old} has been deprecated, use GITSYNC_{new} instead");
        assert!(text(&output).contains(&advice), "{}", text(&output));
    }
}

#[test]
fn broken_credentials_in_the_variable_are_passed_over_with_a_warning() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    let output = finish(site.sync(&["--one-time"]).env("GITSYNC_CREDENTIAL", "{bad"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("GITSYNC_CREDENTIAL"), "{}", text(&output));
    assert_eq!(finish(&mut site.sync(&["--one-time", "--credential={bad"])).status.code(), Some(2));
    // One that lacks something is no accident that goes unnoticed until the remote refuses it.
    let incomplete = r#"{"url":"https://h","password":"p"}"#;
    let by_variable = finish(site.sync(&["--one-time"]).env("GITSYNC_CREDENTIAL", incomplete));
    let by_flag = finish(&mut site.sync(&["--one-time", &format!("--credential={incomplete}")]));
    for output in [by_variable, by_flag] {
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("`username` is missing"), "{}", text(&output));
    }
}

#[test]
#[ignore = "needs nginx and fcgiwrap"]
fn credentials_from_a_store_file_and_from_variable_and_flag_together() {
    let site = Site::new();
    let hash = site.push(&[("a", "1")]);
    let http = Http::serve(&site, "auth_basic x; auth_basic_user_file htpasswd;");
    let fresh = |flags: &[&str], variable: Option<&str>| {
        let _ = fs::remove_dir_all(site.root());
        let mut command = site.sync_from(&http.url(), &["--one-time"]);
        command.args(flags).envs(variable.map(|text| ("GITSYNC_CREDENTIAL", text)));
        finish(&mut command)
    };
    assert_eq!(fresh(&[], None).status.code(), Some(1));
    let file = site.dir.path().join("credentials");
    fs::write(&file, format!("https://x:y@h\nhttp://user:secret%20word@127.0.0.1:{}\n", http.port)).unwrap();
    let helper = format!("--git-config=credential.helper:store --file={}", file.display());
    let output = fresh(&[&helper], None);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(!text(&output).contains("secret"));
    let credential = |url: &str| format!(r#"{{"url":"{url}","username":"user","password":"secret word"}}"#);
    let other = format!("--credential={}", credential("https://other.example"));
    assert_eq!(fresh(&[&other], Some(&credential(&http.url()))).status.code(), Some(0));
    assert_eq!(site.published(), hash);
    let added = helper.replace("-config", "-config-add");
    let output = fresh(&["--git-config=credential.helper:manager --token=t0p", &added], None);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("credential.helper (manager)") && !text(&output).contains("t0p"));
}

#[test]
fn symlinks_become_files_where_they_are_not_wanted() {
    let site = Site::new();
    std::os::unix::fs::symlink("a", site.work().join("l")).unwrap();
    site.push(&[("a", "1")]);
    let flags = ["--one-time", "--git-config=core.symlinks:false,core.fileMode:false"];
    succeed(&mut site.sync(&["--one-time"]));
    assert!(site.link().join("l").is_symlink());
    for _ in 0..2 {
        succeed(&mut site.sync(&flags));
        assert!(!site.link().join("l").is_symlink());
        assert_eq!(site.read("l"), "a");
        assert_eq!(git(&site.link(), &["status", "--porcelain"]), "");
        // Drift in it is seen and mended.
        fs::write(site.link().join("l"), "elsewhere").unwrap();
    }
    succeed(&mut site.sync(&flags));
    assert_eq!(site.read("l"), "a");
    succeed(&mut site.sync(&["--one-time"]));
    assert_eq!(fs::read_link(site.link().join("l")).unwrap(), Path::new("a"));
}

#[test]
#[ignore = "needs root for a small file system, nginx and fcgiwrap"]
fn a_disk_that_fills_while_fetching_needs_no_hand() {
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).output();
        }
    }
    for over_http in [true, false] {
        let site = Site::new();
        fs::create_dir(site.root()).unwrap();
        let mount = |options: &str| {
            run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(site.root()));
        };
        mount("size=6m");
        let _unmount = Unmount(site.root());
        let noise = |bytes: u32| {
            let path = site.work().join("noise").display().to_string();
            run(Command::new("sh").arg("-c").arg(format!("head -c {bytes} /dev/urandom > {path}")));
            site.commit()
        };
        let free = || -> u64 {
            let said = run(Command::new("df").args(["--output=avail", "-k"]).arg(site.root()));
            said.lines().nth(1).unwrap().trim().parse().unwrap()
        };
        let good = noise(500_000);
        let http = over_http.then(|| Http::serve(&site, ""));
        let url = http.as_ref().map_or_else(|| site.url(), Http::url);
        succeed(&mut site.sync_from(&url, &["--one-time"]));
        let before = free();
        // Doesn't fit even as a pack.
        let large = noise(8_000_000);
        for _ in 0..2 {
            let output = finish(&mut site.sync_from(&url, &["--one-time"]));
            assert_eq!(output.status.code(), Some(1), "{}", text(&output));
            assert!(text(&output).contains("No space left"), "{}", text(&output));
            assert_eq!(site.published(), good);
            assert!(free() + 100 > before, "{} of {before} kB are free", free());
        }
        // One that runs on succeeds by itself as soon as there is room.
        let flags = ["--period=100ms", "--max-failures=-1", "--error-file=error.json"];
        let _process = Running::start(&mut site.sync_from(&url, &flags));
        eventually("a failure", || site.root().join("error.json").exists().then_some(()));
        assert_eq!(site.published(), good);
        mount("remount,size=40m");
        eventually("room to be used", || (site.published() == large).then_some(()));
        git(&site.link(), &["fsck"]);
    }
}

#[test]
fn secrets_show_nowhere() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let credential = r#"--credential={"url":"http://h","username":"u","password":"SECRET"}"#.to_owned();
    for (repo, flags) in [
        (format!("http://user:SECRET@{}/x", &nowhere[7..]), vec![]),
        (format!("http://SECRET@{}/x", &nowhere[7..]), vec![]),
        (
            format!("{nowhere}/x"),
            vec!["--username=u".to_owned(), "--__env__GITSYNC_PASSWORD=SECRET".to_owned()],
        ),
        (format!("{nowhere}/x"), vec!["--username=u".to_owned(), "--password=SECRET".to_owned()]),
        (format!("{nowhere}/x"), vec![credential]),
        ("ssh://user:SECRET@127.0.0.1:1/x".to_owned(), vec![]),
        (site.url(), vec![format!("--webhook-url=http://u:SECRET@{}/?token=SECRET", &nowhere[7..])]),
        (site.url(), vec![format!("--askpass-url=http://u:SECRET@{}/?token=SECRET", &nowhere[7..])]),
        (format!("{nowhere}/x"), vec!["--git-config=http.extraHeader:Token SECRET".to_owned()]),
        (format!("{nowhere}/x"), vec![format!("--git-config=http.proxy:http://u:SECRET@{}", &nowhere[7..])]),
    ] {
        let mut command = site.sync_from(&repo, &["--one-time", "-v=9", "--error-file=error"]);
        let output = finish(command.args(&flags));
        assert_eq!(output.status.code(), Some(1), "{flags:?}");
        let written = fs::read_to_string(site.root().join("error")).unwrap_or_default();
        assert!(!text(&output).contains("SECRET") && !written.contains("SECRET"), "{}", text(&output));
    }
}

#[test]
fn group_write_counts_for_all_that_is_written() {
    let site = Site::new();
    site.push(&[("a", "1"), ("d/b", "2")]);
    succeed(&mut site.sync(&["--one-time", "--group-write"]));
    // Packs are read-only, as git writes them.
    let said = run(Command::new("find").arg(site.root()).args(["!", "-type", "l", "!", "-perm", "-g=w"]));
    assert!(said.lines().all(|path| path.contains("/objects/pack/pack-")), "{said}");
    fs::remove_dir_all(site.root()).unwrap();
    succeed(&mut site.sync(&["--one-time"]));
    let said = run(Command::new("find").arg(site.root()).args(["!", "-type", "l", "-perm", "-g=w"]));
    assert_eq!(said, "");
}

/// As Go's client does, which kubernetes/git-sync uses.
#[test]
fn user_and_password_of_the_webhook_address_are_sent() {
    use std::io::{Read as _, Write as _};
    let site = Site::new();
    site.push(&[("a", "1")]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        String::from_utf8(head).unwrap().to_lowercase()
    });
    succeed(&mut site.sync(&["--one-time", &format!("--webhook-url=http://us%40er:p%3Aw@{address}/x?k=1")]));
    let head = server.join().unwrap();
    assert!(head.starts_with("post /x?k=1 http/1.1\r\n") && head.contains("\r\ngitsync-hash: "), "{head}");
    // us@er:p:w
    assert!(head.contains("\r\nauthorization: basic dxnazxi6cdp3\r\n") && !head.contains("us%40"), "{head}");
}

/// The very commands kubernetes/git-sync gives to git, and what it leaves when it is killed: some of it keeps
/// its own next start from working. A reader looks all the time.
#[test]
fn a_volume_of_the_peer_with_all_its_crumbs() {
    for (v3, sparse) in [(false, false), (false, true), (true, false)] {
        let (site, library) = (Site::new(), Site::new());
        library.push(&[("l", "library")]);
        let noise = "head -c 300000 /dev/urandom > noise";
        run(Command::new("sh").args(["-c", noise]).current_dir(site.work()));
        let local = ["-c", "protocol.file.allow=always"];
        let add = ["submodule", "--quiet", "add", &library.url(), "sub"];
        git(&site.work(), &[&local[..], &add].concat());
        let old = site.push(&[("a", "1"), ("skipped/b", "2")]);
        let (root, url) = (site.root(), site.url());
        run(Command::new("git").args(["init", "-q", "-b", "git-sync"]).arg(&root));
        let at = |place: &Path, line: &str| {
            let line = line.replace("HASH", &old);
            git(place, &[&local[..], &line.split(' ').collect::<Vec<_>>()].concat());
        };
        at(&root, &format!("remote add origin {url}"));
        at(&root, "fetch -q --prune --no-auto-gc --depth 1 origin main");
        at(&root, "reset -q --soft HASH --");
        let place = if v3 { old.clone() } else { format!(".worktrees/{old}") };
        let tree = root.join(&place);
        at(&root, &format!("worktree add -q --force --detach {place} HASH --no-checkout"));
        let up = if v3 { "../.git" } else { "../../.git" };
        fs::write(tree.join(".git"), format!("gitdir: {up}/worktrees/{old}\n")).unwrap();
        let admin = root.join(".git/worktrees").join(&old);
        let patterns = site.dir.path().join("patterns");
        fs::write(&patterns, "/*\n!/skipped\n").unwrap();
        if sparse {
            at(&tree, "sparse-checkout init");
            fs::copy(&patterns, admin.join("info/sparse-checkout")).unwrap();
        }
        at(&tree, "reset -q --hard HASH --");
        at(&tree, "submodule --quiet update --init --recursive --depth 1");
        std::os::unix::fs::symlink(&place, site.link()).unwrap();
        assert_eq!(
            (site.read("sub/l"), site.link().join("skipped").exists()),
            ("library".to_owned(), !sparse)
        );
        for lock in ["index.lock", "HEAD.lock"] {
            fs::write(admin.join(lock), "").unwrap();
            fs::write(root.join(".git").join(lock), "").unwrap();
        }
        std::os::unix::fs::symlink(&place, root.join("tmp-link")).unwrap();
        let half = root.join(".worktrees").join("0".repeat(40));
        fs::create_dir_all(half.join("d")).unwrap();
        let objects = || -> Vec<(PathBuf, u64)> {
            let said = run(Command::new("find")
                .arg(root.join(".git/objects"))
                .args(["-type", "f", "-printf", "%s %p\n"]));
            said.lines()
                .map(|l| l.split_once(' ').unwrap())
                .map(|(s, p)| (p.into(), s.parse().unwrap()))
                .collect()
        };
        let before = objects();
        let done = std::sync::atomic::AtomicBool::new(false);
        let mut flags = vec!["--one-time".to_owned(), "--git-gc=off".to_owned()];
        flags.extend(sparse.then(|| format!("--sparse-checkout-file={}", patterns.display())));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let tree = site.link().canonicalize().expect("the link always leads somewhere");
                    // v3's place is left for good in one step, so it is looked at through the link only.
                    let read = fs::read_to_string(tree.join("a"));
                    assert!(read.is_ok_and(|text| text == "1") || v3, "the tree is gone");
                }
            });
            let output = finish(site.sync(&[]).args(&flags));
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        });
        assert_eq!(
            (site.published(), site.read("a"), site.read("sub/l")),
            (old.clone(), "1".to_owned(), "library".to_owned())
        );
        let fetched: u64 = objects().iter().filter(|file| !before.contains(file)).map(|file| file.1).sum();
        assert!(fetched < 50_000 && before.iter().all(|file| file.0.exists()), "{fetched} bytes: a re-clone");
        assert!(!half.exists() && !root.join("tmp-link").is_symlink() && !admin.join("index.lock").exists());
        assert!(fs::read_link(site.link()).unwrap().starts_with(".worktrees") && !root.join(&old).exists());
        assert_eq!(site.link().join("skipped").exists(), !sparse);
        assert_eq!(git(&site.link(), &["status", "--porcelain"]), "");
        let new = site.push(&[("a", "2")]);
        succeed(site.sync(&[]).args(&flags));
        assert_eq!((site.published(), site.read("a")), (new, "2".to_owned()));
        git(&site.link(), &["fsck"]);
    }
}
