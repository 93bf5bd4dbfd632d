//! A tree shaped for web servers, served by a real nginx.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use support::{Site, eventually, finish, free_port, git, nginx, run, succeed};

const ALL: &[&str] = &["--one-time", "--strip=dotfiles", "--file-times=commit", "--precompress=gz,br,zst"];

fn unpack(codec: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match codec {
        "gz" => flate2::read::GzDecoder::new(data).read_to_end(&mut out).unwrap(),
        "br" => brotli::Decompressor::new(data, 4_096).read_to_end(&mut out).unwrap(),
        _ => {
            out = zstd::stream::decode_all(data).unwrap();
            0
        }
    };
    out
}

#[test]
fn nginx_serves_what_was_made_for_it() {
    let site = Site::new();
    let page = "<p>Hello, world</p>\n".repeat(100);
    site.push(&[
        ("index.html", &page),
        ("app.js", &page.replace('p', "q")),
        ("small.txt", "x"),
        ("photo.jpg", &page),
        ("own.css", &page),
        ("own.css.gz", "made by the author"),
        (".htpasswd", "secret"),
        (".github/workflows/x.yml", "x"),
        (".well-known/security.txt", "here"),
        ("d/.env", "secret"),
    ]);
    for mode in ["symlink", "exchange"] {
        let mode = format!("--publish={mode}");
        succeed(site.sync(ALL).arg(&mode));
        let top = site.link();
        for gone in [".git", ".htpasswd", ".github", "d/.env", "small.txt.gz", "photo.jpg.gz"] {
            assert!(!top.join(gone).exists(), "{gone}");
        }
        assert_eq!(site.read(".well-known/security.txt"), "here");
        assert_eq!(site.read("own.css.gz"), "made by the author");
        let time: i64 = git(&site.work(), &["log", "-1", "--format=%ct"]).trim().parse().unwrap();
        for codec in ["gz", "br", "zst"] {
            let path = top.join(format!("index.html.{codec}"));
            let data = fs::read(&path).unwrap();
            assert!(data.len() < page.len() / 4 && unpack(codec, &data) == page.as_bytes(), "{codec}");
            assert_eq!(fs::metadata(&path).unwrap().mtime(), time);
        }
        assert_eq!(fs::metadata(top.join("photo.jpg")).unwrap().mtime(), time);
        // Real nginx: the prepared file is what it sends, and a second pod's answer has the same ETag.
        let (here, there) = (free_port(), free_port());
        let other = Site::new();
        succeed(other.sync_from(&site.url(), ALL).arg(&mode));
        let _servers = (nginx(&site, here), nginx(&other, there));
        let head = |port: u16| {
            let url = format!("http://127.0.0.1:{port}/index.html");
            let curl = run(Command::new("curl").args(["-sI", "-H", "Accept-Encoding: gzip", &url]));
            let wanted = |line: &&str| line.starts_with("ETag") || line.starts_with("Content-");
            curl.lines().filter(wanted).map(str::to_owned).collect::<Vec<_>>()
        };
        let prepared = fs::metadata(top.join("index.html.gz")).unwrap().len();
        eventually("nginx", || (!head(here).is_empty() && !head(there).is_empty()).then_some(()));
        assert!(head(here).contains(&"Content-Encoding: gzip".to_owned()), "{:?}", head(here));
        assert!(head(here).contains(&format!("Content-Length: {prepared}")), "{:?}", head(here));
        assert_eq!(head(here), head(there));
        // An update: what changed gets new siblings, the others stay, what is gone loses them.
        let before = fs::read(top.join("index.html.br")).unwrap();
        let script = format!("{mode} {}", page.replace('p', "r"));
        fs::remove_file(site.work().join("own.css")).unwrap();
        site.push(&[("app.js", &script)]);
        succeed(site.sync(ALL).arg(&mode));
        assert_eq!(fs::read(top.join("index.html.br")).unwrap(), before);
        assert_eq!(unpack("zst", &fs::read(top.join("app.js.zst")).unwrap()), script.as_bytes());
        assert!(!top.join("own.css.br").exists());
        site.push(&[("own.css", &page)]);
        // Off again: the tree is what the commit is.
        succeed(site.sync(&["--one-time"]).arg(&mode));
        assert!(top.join("d/.env").exists() && !top.join("index.html.gz").exists());
    }
    for wrong in ["--strip=all", "--file-times=now", "--precompress=gz,lzma"] {
        assert_eq!(finish(&mut site.sync(&[wrong])).status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn what_somebody_changes_in_a_shaped_tree_is_undone() {
    let site = Site::new();
    site.push(&[("a.html", &"text ".repeat(200))]);
    let arguments = ["--precompress=gz", "--period=20ms"];
    let _running = support::Running::start(&mut site.sync(&arguments));
    let sibling = site.link().join("a.html.gz");
    let good = eventually("the sibling", || fs::read(&sibling).ok());
    fs::write(&sibling, "bad").unwrap();
    eventually("the sibling as it was", || fs::read(&sibling).ok().filter(|now| *now == good));
}
