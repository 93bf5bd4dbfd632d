//! What is at the published path: a link or a real directory, of all the repository or a folder.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use support::{Running, Site, eventually, finish, run, succeed, text};

const EXCHANGE: &[&str] = &["--publish=exchange", "--period=20ms", "--max-failures=-1"];

fn is_real(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Reads two files of one opened directory; `None` when it was replaced in between.
fn pair(path: &Path) -> Option<(String, String)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).expect("the published directory is missing");
    let read = |name: &str| {
        let file =
            rustix::fs::openat(&directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut text = String::new();
        fs::File::from(file).read_to_string(&mut text).ok()?;
        Some(text)
    };
    Some((read("a")?, read("d/b")?))
}

#[test]
fn a_directory_is_exchanged_and_never_mixed_or_missing() {
    let site = Site::new();
    site.push(&[("a", "0"), ("d/b", "0"), ("e/c", "0")]);
    symlink("a", site.work().join("up")).unwrap();
    site.commit();
    succeed(&mut site.sync(&["--publish=exchange", "--one-time"]));
    assert!(is_real(&site.link()) && !site.link().join(".git").exists());
    assert_eq!(fs::read_link(site.link().join("up")).unwrap(), Path::new("a"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Ordering::Relaxed) {
                if let Some((a, b)) = pair(&site.link()) {
                    assert_eq!(a, b, "a mixed tree");
                    reads += 1;
                }
            }
            reads
        });
        for round in 1..13 {
            let mut running = Running::start(&mut site.sync(EXCHANGE));
            let value = round.to_string();
            site.push(&[("a", &value), ("d/b", &value)]);
            if round % 3 == 0 {
                // Killed whenever: in the copy, before or after the exchange.
                std::thread::sleep(Duration::from_millis(round * 7));
            } else {
                eventually("the new tree", || (site.read("a") == value).then_some(()));
            }
            running.0.kill().unwrap();
            running.0.wait().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    succeed(&mut site.sync(&["--publish=exchange", "--one-time"]));
    assert_eq!((site.read("a"), site.read("d/b")), ("12".to_owned(), "12".to_owned()));
    let left = fs::read_dir(site.root()).unwrap().flatten().map(|entry| entry.file_name());
    let mut left: Vec<_> = left.map(|name| name.into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, [".git", ".worktrees", "link"], "nothing is left over");
    // Back to a link, and again to a directory.
    succeed(&mut site.sync(&["--one-time"]));
    assert!(site.link().is_symlink());
    succeed(&mut site.sync(&["--publish=exchange", "--one-time"]));
    assert!(is_real(&site.link()));
    // Away from the root as well.
    let away = site.dir.path().join("away/site");
    let link = format!("--link={}", away.display());
    fs::create_dir_all(&away).unwrap();
    fs::write(away.join("precious"), "x").unwrap();
    let refused = finish(&mut site.sync(&["--publish=exchange", "--one-time", &link]));
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("in the way of --link"), "{}", text(&refused));
    assert_eq!(fs::read_to_string(away.join("precious")).unwrap(), "x");
    fs::remove_file(away.join("precious")).unwrap();
    succeed(&mut site.sync(&["--publish=exchange", "--one-time", &link]));
    assert_eq!(fs::read_to_string(away.join("a")).unwrap(), "12");
}

#[test]
fn what_somebody_does_to_the_directory_is_undone() {
    let site = Site::new();
    site.push(&[("a", "1"), ("d/b", "1")]);
    let _running = Running::start(&mut site.sync(EXCHANGE));
    eventually("the directory", || is_real(&site.link()).then_some(()));
    fs::write(site.link().join("a"), "changed").unwrap();
    eventually("the old content", || (site.read("a") == "1").then_some(()));
    // The path is another directory for an instant only if one names it; opening it again is enough.
    fs::remove_dir_all(site.link().join("d")).unwrap();
    eventually("the folder", || fs::read_to_string(site.link().join("d/b")).is_ok().then_some(()));
    fs::remove_dir_all(site.link()).unwrap();
    eventually("the directory", || fs::read_to_string(site.link().join("d/b")).is_ok().then_some(()));
}

#[test]
fn only_a_folder_is_published() {
    let site = Site::new();
    let hash = site.push(&[("public/html/index", "1"), ("secret", "1")]);
    symlink("public", site.work().join("alias")).unwrap();
    site.commit();
    for mode in ["symlink", "exchange"] {
        let mode = format!("--publish={mode}");
        succeed(&mut site.sync(&[&mode, "--subpath=public/html/", "--one-time"]));
        assert_eq!(site.read("index"), "1");
        assert!(!site.link().join("secret").exists() && !site.link().join(".git").exists());
        // Another folder of the same commit, and no folder at all.
        succeed(&mut site.sync(&[&mode, "--subpath=./public", "--one-time"]));
        assert_eq!(site.read("html/index"), "1");
        for wrong in ["nowhere", "secret", "alias"] {
            let refused = finish(&mut site.sync(&[&mode, &format!("--subpath={wrong}"), "--one-time"]));
            assert_eq!(refused.status.code(), Some(1));
            assert!(text(&refused).contains("the commit has no folder"), "{}", text(&refused));
        }
        assert_eq!(site.read("html/index"), "1", "the old tree stays");
    }
    for wrong in ["..", "a/../..", "/etc", ".git"] {
        assert_eq!(
            finish(&mut site.sync(&[&format!("--subpath={wrong}")])).status.code(),
            Some(2),
            "{wrong}"
        );
    }
    let _ = hash;
}

#[test]
fn a_copy_is_made_once_and_then_left_to_its_owner() {
    let site = Site::new();
    site.push(&[("a", "1")]);
    let once = ["--publish=copy-once", "--one-time"];
    succeed(&mut site.sync(&once));
    fs::write(site.link().join("a"), "mine").unwrap();
    fs::write(site.link().join("b"), "mine").unwrap();
    site.push(&[("a", "2")]);
    succeed(&mut site.sync(&once));
    assert_eq!((site.read("a"), site.read("b")), ("mine".to_owned(), "mine".to_owned()));
    // Even when nobody knows any more where it came from.
    run(Command::new("rm").arg("-rf").arg(site.root().join(".git")));
    assert_eq!(finish(&mut site.sync(&once)).status.code(), Some(1));
    assert_eq!(site.read("b"), "mine");
}
