//! What a repository could do to the machine that syncs it: each refused or contained.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{Site, finish, git, run, succeed, text};

/// Writes objects that the real git refuses to write: a list of `[mode, [name, ...], content]`, in trees that
/// are built from the longest common beginnings but keep doubles.
const FORGE: &str = r#"
import hashlib, json, os, sys, zlib
sys.setrecursionlimit(5_000)
top, entries = sys.argv[1], json.loads(sys.argv[2])
def put(kind, data):
    raw = kind + b" %d\0" % len(data) + data
    name = hashlib.sha1(raw).hexdigest()
    target = os.path.join(top, "objects", name[:2], name[2:])
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not os.path.exists(target):
        open(target, "wb").write(zlib.compress(raw))
    return name
def tree(entries):
    items, nested = [], {}
    for mode, path, content in entries:
        if len(path) > 1:
            nested.setdefault(path[0], []).append([mode, path[1:], content])
        elif mode == "160000":
            items.append((path[0], mode, content))
        else:
            items.append((path[0], mode, put(b"blob", content.encode())))
    items += [(name, "40000", tree(inner)) for name, inner in nested.items()]
    items.sort(key=lambda item: item[0] + ("/" if item[1] == "40000" else ""))
    return put(b"tree", b"".join(m.encode() + b" " + n.encode() + b"\0" + bytes.fromhex(i) for n, m, i in items))
who = b"T <t@localhost> 1700000000 +0000"
name = tree(entries)
commit = put(b"commit", b"tree " + name.encode() + b"\nauthor " + who + b"\ncommitter " + who + b"\n\nbad\n")
open(os.path.join(top, "refs/heads/main"), "w").write(commit + "\n")
"#;

fn forge(site: &Site, entries: &serde_json::Value) {
    run(Command::new("python3").args(["-c", FORGE]).arg(site.bare()).arg(entries.to_string()));
}

/// A site with a good commit published.
fn good_site() -> (Site, String) {
    let site = Site::new();
    let good = site.push(&[("a", "1")]);
    succeed(&mut site.sync(&["--one-time"]));
    (site, good)
}

/// A hostile commit changes nothing in what is published.
fn refused((site, good): &(Site, String), entries: &serde_json::Value, reason: &str) {
    forge(site, entries);
    let output = finish(&mut site.sync(&["--one-time"]));
    assert_eq!(output.status.code(), Some(1), "{entries}: {}", text(&output));
    assert!(text(&output).contains(reason), "{entries}: {}", text(&output));
    assert_eq!((&site.published(), site.read("a")), (good, "1".to_owned()), "{entries}");
    assert_eq!(fs::read_dir(site.root().join(".worktrees")).unwrap().count(), 1, "{entries}");
}

#[test]
fn every_disguise_of_dot_git_is_refused() {
    let site = good_site();
    for name in [
        ".git",
        ".GIT",
        ".gIt",
        ".git.",
        ".git ",
        ".git. . ",
        "git~1",
        "GIT~1",
        ".git::$INDEX_ALLOCATION",
        "git~1::$INDEX_ALLOCATION",
        ".git:stream",
        ".g\u{200c}it",
        ".gi\u{200d}t",
        "\u{feff}.git",
        ".git\u{206f}",
        ".\u{202e}GIT",
        "x\\.git\\config",
        ".git\\hooks",
    ] {
        refused(&site, &serde_json::json!([["100755", [name, "hooks", "x"], "bad"]]), "disguise of .git");
        refused(&site, &serde_json::json!([["120000", ["d", name], "/tmp"]]), "disguise of .git");
    }
}

#[test]
fn nothing_is_written_outside_the_checkout() {
    let (site, outside) = (good_site(), tempfile::tempdir().unwrap());
    let target = outside.path().to_str().unwrap();
    for (entries, reason) in [
        (serde_json::json!([["100644", ["..", "up"], "bad"]]), "relative step"),
        (serde_json::json!([["100644", ["."], "bad"]]), "relative step"),
        (serde_json::json!([["100644", ["d", ""], "bad"]]), "empty name"),
        (serde_json::json!([["100644", ["/etc/x"], "bad"]]), "separator"),
        (serde_json::json!([["100644", ["d", "../../up"], "bad"]]), "separator"),
        // The same name as a symlink and as a directory, in either order.
        (serde_json::json!([["120000", ["d"], target], ["100644", ["d", "x"], "bad"]]), "twice"),
        (serde_json::json!([["120000", ["q", "d"], target], ["100644", ["q", "d", "x"], "bad"]]), "twice"),
        (serde_json::json!([["100644", ["a"], "1"], ["120000", ["a"], target]]), "twice"),
        (serde_json::json!([["120000", ["l"], "x".repeat(5_000)]]), "too long"),
        (serde_json::json!([["120000", ["l"], "a\u{0}b"]]), "no possible name"),
        (serde_json::json!([["100644", ["n".repeat(256)], "bad"]]), "255 bytes"),
    ] {
        refused(&site, &entries, reason);
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    // Deeper than any file system.
    let deep: Vec<String> = (0..600).map(|_| "d".to_owned()).collect();
    refused(&site, &serde_json::json!([["100644", deep, "bad"]]), "nested directories");
}

/// Names that only a file system without case would take for one are two files here.
#[test]
fn names_that_differ_in_case_are_two_files() {
    let site = Site::new();
    forge(&site, &serde_json::json!([["100644", ["A", "x"], "1"], ["100644", ["a", "x"], "2"]]));
    succeed(&mut site.sync(&["--one-time"]));
    assert_eq!((site.read("A/x"), site.read("a/x")), ("1".to_owned(), "2".to_owned()));
}

/// A symlink may lead anywhere; nothing is written or read through it.
#[test]
fn symlinks_are_never_followed() {
    let site = Site::new();
    let outside = tempfile::tempdir().unwrap();
    let place = |name: &str| outside.path().join(name).to_str().unwrap().to_owned();
    fs::write(outside.path().join("modules"), "[submodule \"m\"]\npath = m\nurl = /nowhere\n").unwrap();
    let zero = "0".repeat(39) + "1";
    forge(
        &site,
        &serde_json::json!([
            ["120000", [".gitmodules"], place("modules")],
            ["120000", [".gitattributes"], "/dev/zero"],
            ["120000", ["loop"], "loop"],
            ["120000", ["out"], outside.path().to_str().unwrap()],
            ["160000", ["m"], zero],
        ]),
    );
    succeed(&mut site.sync(&["--one-time"]));
    assert_eq!(fs::read_link(site.link().join("out")).unwrap(), outside.path());
    // A directory of the next commit takes the symlink's place, not its target's.
    forge(&site, &serde_json::json!([["100644", ["out", "x"], "mine"]]));
    succeed(&mut site.sync(&["--one-time"]));
    assert_eq!(site.read("out/x"), "mine");
    assert!(!outside.path().join("x").exists());
}

#[test]
fn submodules_can_do_no_tricks() {
    let library = Site::new();
    let commit = library.push(&[("l", "1")]);
    let url = library.url();
    let modules = |lines: &str, paths: &[&str]| {
        let mut entries = vec![serde_json::json!(["100644", [".gitmodules"], lines])];
        entries.extend(paths.iter().map(|p| serde_json::json!(["160000", [p], commit])));
        serde_json::Value::Array(entries)
    };
    let one = |name: &str, url: &str| format!("[submodule \"{name}\"]\n\tpath = m\n\turl = {url}\n");
    let ((site, good), marker) = (good_site(), tempfile::tempdir().unwrap());
    let touch = marker.path().join("run").display().to_string();
    for (entries, reason) in [
        (modules(&one("../../../hooks", &url), &["m"]), "dangerous submodule name"),
        (modules(&one("/tmp/x", &url), &["m"]), "dangerous submodule name"),
        (modules(&one("a/../../b", &url), &["m"]), "dangerous submodule name"),
        (modules(&one("x/.git", &url), &["m"]), "dangerous submodule name"),
        (modules(&one("m", &format!("-u./{touch}")), &["m"]), "looks like an option"),
        (modules(&one("m", &format!("--upload-pack=touch {touch}")), &["m"]), "looks like an option"),
        (modules(&one("m", &format!("ext::sh -c touch% {touch}")), &["m"]), "m"),
        (modules(&one("m", &format!("fd::17/{touch}")), &["m"]), "m"),
        (modules(&one("m", "ssh://-oProxyCommand=touch/x"), &["m"]), "m"),
        (
            modules(&format!("[include]\n\tpath = /dev/zero\n{}", one("m", &url)), &["m"]),
            "includes other files",
        ),
        (
            modules(&format!("[a] [ IncludeIf \"x\"]\n\tpath = /x\n{}", one("m", &url)), &["m"]),
            "includes other",
        ),
        (
            modules(
                &format!("{}[submodule \"m/store\"]\n\tpath = n\n\turl = {url}\n", one("m", &url)),
                &["m", "n"],
            ),
            "named inside another",
        ),
    ] {
        forge(&site, &entries);
        let output = finish(&mut site.sync(&["--one-time", "--sync-timeout=20s"]));
        assert_eq!(output.status.code(), Some(1), "{entries}: {}", text(&output));
        assert!(text(&output).contains(reason), "{entries}: {}", text(&output));
        assert_eq!((&site.published(), site.read("a")), (&good, "1".to_owned()));
        assert!(!Path::new(&touch).exists(), "{entries}");
        let hooks = site.root().join(".git/hooks");
        assert!(!hooks.exists() && !site.root().join("hooks").exists(), "{entries}");
    }
    // The same, honestly.
    let site = Site::new();
    forge(&site, &modules(&one("deep/m", &url), &["m"]));
    succeed(&mut site.sync(&["--one-time"]));
    assert_eq!(site.read("m/l"), "1");
    git(&site.link().join("m"), &["fsck"]);
}

/// Ten small trees that stand for ten thousand million files.
#[test]
fn a_tree_bomb_is_counted_before_it_goes_off() {
    let (site, good) = good_site();
    let script = FORGE[..FORGE.find("def tree").unwrap()].replace("json.loads(sys.argv[2])", "None")
        + r#"
item = lambda mode, name, target: mode + b" " + name + b"\0" + bytes.fromhex(target)
blob = put(b"blob", b"x\n")
name = put(b"tree", b"".join(item(b"100644", b"f%d" % i, blob) for i in range(10)))
for level in range(9):
    name = put(b"tree", b"".join(item(b"40000", b"d%d" % i, name) for i in range(10)))
who = b"T <t@localhost> 1700000000 +0000"
commit = put(b"commit", b"tree " + name.encode() + b"\nauthor " + who + b"\ncommitter " + who + b"\n\nbad\n")
open(os.path.join(top, "refs/heads/main"), "w").write(commit + "\n")
"#;
    run(Command::new("python3").args(["-c", &script]).arg(site.bare()));
    // In 512 MiB of address space, which a list of so many files would burst.
    let mut limited = Command::new("prlimit");
    let sync = site.sync(&["--one-time"]);
    limited.arg("--as=536870912").arg(sync.get_program()).args(sync.get_args());
    let output = finish(&mut limited);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("more than 5000000 files"), "{}", text(&output));
    assert_eq!((site.published(), site.read("a")), (good, "1".to_owned()));
}
