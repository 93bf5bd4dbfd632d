//! Git LFS: the real client pushes into a small real server, the binary publishes.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::Command;

use support::lfs::{Fault, LOGIN, Lfs};
use support::{Http, Running, Site, eventually, finish, free_port, get, git, run, succeed, text};

/// A site whose large files go to an LFS server.
struct Large {
    site: Site,
    http: Http,
    lfs: Lfs,
}

fn bytes(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(((at * 31) >> 3) & 0xff).unwrap() ^ seed).collect()
}

impl Large {
    /// The server is found beside the repository: nginx hands `…/info/lfs` on.
    fn new() -> Self {
        let (site, lfs) = (Site::new(), Lfs::start());
        let inner = format!("location ~ /info/lfs/ {{ proxy_pass http://127.0.0.1:{}; }}", lfs.api);
        let http = Http::serve(&site, &inner);
        git(&site.work(), &["lfs", "install", "--local"]);
        let (user, password) = (LOGIN.0, LOGIN.1.replace(' ', "%20"));
        let url = http.url().replace("http://", &format!("http://{user}:{password}@"));
        git(&site.work(), &["config", "lfs.url", &format!("{url}/info/lfs")]);
        git(&site.work(), &["config", "lfs.locksverify", "false"]);
        fs::write(site.work().join(".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n").unwrap();
        Self { site, http, lfs }
    }

    fn push(&self, files: &[(&str, &[u8])]) -> String {
        for (name, content) in files {
            let path = self.site.work().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        self.site.commit()
    }

    fn credential(&self) -> String {
        let origin = self.http.url();
        let json = serde_json::json!({ "url": origin, "username": LOGIN.0, "password": LOGIN.1 });
        format!("--credential={json}")
    }

    fn sync(&self, arguments: &[&str]) -> Command {
        self.sync_at("main", arguments)
    }

    fn sync_at(&self, reference: &str, arguments: &[&str]) -> Command {
        let mut command = self.site.sync_from(&self.http.url(), arguments);
        command.args(["--one-time", "--lfs=on"].iter().filter(|_| arguments.is_empty()));
        command.args([&format!("--ref={reference}"), &self.credential()]);
        command
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.site.link().join(name)).unwrap()
    }

    fn oid(&self, name: &str) -> String {
        let pointer = git(&self.site.work(), &["show", &format!("HEAD:{name}")]);
        pointer.lines().find_map(|line| line.strip_prefix("oid sha256:")).unwrap().to_owned()
    }

    fn gets(&self) -> usize {
        self.lfs.log().iter().filter(|line| line.starts_with("storage GET")).count()
    }
}

#[test]
#[ignore = "needs git-lfs, nginx and fcgiwrap"]
fn what_the_real_client_pushed_is_published() {
    let large = Large::new();
    let (a, b) = (bytes(1, 300_000), bytes(2, 70_000));
    large.push(&[
        ("a.bin", &a),
        ("d/b.bin", &b),
        ("d/same.bin", &b),
        ("empty.bin", b""),
        ("plain.txt", b"text\n"),
    ]);
    assert_eq!(large.lfs.oids().len(), 2);
    // A pointer that no attribute calls one, and a large file that is no pointer.
    let pointer = git(&large.site.work(), &["show", "HEAD:a.bin"]);
    large.push(&[("pointer.txt", pointer.as_bytes())]);
    succeed(&mut large.sync(&["--one-time"]));
    assert_eq!(large.read("a.bin"), pointer.as_bytes(), "off by default, as the peer");
    large.lfs.forget_log();
    succeed(&mut large.sync(&["--one-time", "--lfs=on"]));
    let check = || {
        assert!(large.read("a.bin") == a && large.read("d/b.bin") == b && large.read("d/same.bin") == b);
        assert!(large.read("empty.bin").is_empty());
        assert_eq!(large.read("pointer.txt"), pointer.as_bytes());
        // Without git-lfs, and without its filter.
        assert_eq!(git(&large.site.link(), &["status", "--porcelain"]), "");
    };
    check();
    assert_eq!(large.gets(), 2);
    // A real git-lfs knows its way about.
    let listed = git(&large.site.link(), &["lfs", "ls-files"]);
    assert_eq!(listed.lines().filter(|line| line.contains(" * ")).count(), 3, "{listed}");
    assert!(git(&large.site.link(), &["lfs", "fsck"]).contains("OK"));
    // What is here isn't asked for again, whether or not the checkout is.
    large.lfs.forget_log();
    succeed(&mut large.sync(&["--one-time", "--lfs=off"]));
    assert_eq!(large.read("a.bin"), pointer.as_bytes());
    succeed(&mut large.sync(&["--one-time", "--lfs=on"]));
    check();
    assert_eq!(large.lfs.log(), Vec::<String>::new());
    // Only what is new; and what nobody needs any more goes.
    let c = bytes(3, 1_000);
    large.push(&[("a.bin", &c)]);
    let old = large.site.root().join(".git/lfs/objects");
    let count = || run(Command::new("find").arg(&old).args(["-type", "f"])).lines().count();
    succeed(&mut large.sync(&["--one-time", "--lfs=on", "--reuse=auto"]));
    assert!(large.read("a.bin") == c && large.read("d/b.bin") == b);
    assert_eq!((large.gets(), count()), (1, 2));
    assert_eq!(git(&large.site.link(), &["status", "--porcelain"]), "");
    // A sparse checkout needs only its own.
    fs::remove_dir_all(large.site.root()).unwrap();
    large.lfs.forget_log();
    let patterns = large.site.dir.path().join("patterns");
    fs::write(&patterns, "/d/\n").unwrap();
    let sparse = format!("--sparse-checkout-file={}", patterns.display());
    succeed(&mut large.sync(&["--one-time", "--lfs=on", &sparse]));
    assert_eq!((large.gets(), large.read("d/b.bin") == b), (1, true));
    assert_eq!(finish(&mut large.sync(&["--lfs=yes"])).status.code(), Some(2));
}

#[test]
#[ignore = "needs git-lfs, nginx and fcgiwrap"]
fn what_a_server_does_wrong_is_survived_or_said() {
    let large = Large::new();
    let (a, b) = (bytes(1, 900_000), bytes(2, 5_000));
    let first = large.push(&[("a.bin", b"first"), ("b.bin", &b)]);
    succeed(&mut large.sync(&["--one-time", "--lfs=on"]));
    large.push(&[("a.bin", &a)]);
    let oid = large.oid("a.bin");
    // One by one: the server comes to its senses.
    let faults: &[&[Fault]] = &[
        &[Fault::Truncated],
        &[Fault::Truncated, Fault::Truncated],
        &[Fault::Truncated, Fault::WholeInstead],
        &[Fault::Truncated, Fault::WrongRange],
        &[Fault::Corrupt],
        &[Fault::Truncated, Fault::Corrupt],
        &[Fault::TooLong],
        &[Fault::Status(429)],
        &[Fault::Status(500), Fault::Status(503)],
        &[Fault::Status(403)],
        &[Fault::Expired],
    ];
    let here = large.site.root().join(".git/lfs/objects").join(&oid[..2]);
    for faults in faults {
        let _ = fs::remove_dir_all(&here);
        succeed(&mut large.sync_at(&first, &[]));
        large.lfs.fail(&oid, faults);
        succeed(&mut large.sync(&["--one-time", "--lfs=on"]));
        assert!(large.read("a.bin") == a, "{faults:?}");
    }
    large.lfs.fail_batch(&[429, 503]);
    succeed(&mut large.sync_at(&first, &[]));
    let _ = fs::remove_dir_all(&here);
    succeed(&mut large.sync(&["--one-time", "--lfs=on"]));
    assert!(large.read("a.bin") == a);
    // What was begun is gone on with.
    let ranged = large.lfs.log().iter().filter(|line| line.contains("range: bytes=")).count();
    assert!(ranged >= 4, "{ranged}");
    // And when it doesn't: the old tree stays, and the reason names path, object and server.
    let hopeless: [(&[Fault], &str); 4] = [
        (&[Fault::Status(404)], "answered 404"),
        (&[Fault::NotThere], "404 Object does not exist"),
        (&[Fault::Status(403), Fault::Status(403)], "answered 403"),
        (&[Fault::Corrupt; 4], "another content"),
    ];
    for (faults, reason) in hopeless {
        succeed(&mut large.sync_at(&first, &[]));
        let _ = fs::remove_dir_all(&here);
        large.lfs.fail(&oid, faults);
        let output = finish(&mut large.sync(&["--one-time", "--lfs=on"]));
        let text = text(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for part in [reason, "a.bin", &oid, "http://127.0.0.1:"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("S3CR3T") && !text.contains(LOGIN.1), "{text}");
        assert_eq!((large.site.published(), large.read("a.bin")), (first.clone(), b"first".to_vec()));
        large.lfs.fail(&oid, &[]);
    }
    // Nobody else gets the password, and a wrong one is called so.
    for line in large.lfs.log().iter().filter(|line| line.starts_with("storage")) {
        assert!(!line.contains("authorization"), "{line}");
    }
    let url = large.http.url();
    let output = finish(&mut large.site.sync_from(&url, &["--one-time", "--lfs=on", "--ref=main"]));
    assert!(text(&output).contains("answered 401 (credentials are missing or wrong)"), "{}", text(&output));
}

#[test]
#[ignore = "needs git-lfs, nginx and fcgiwrap"]
fn the_server_is_named_by_file_or_setting_and_credentials_stay_at_home() {
    let large = Large::new();
    let url = large.lfs.url();
    fs::write(large.site.work().join(".lfsconfig"), format!("[lfs]\n\turl = {url}\n")).unwrap();
    let content = bytes(7, 20_000);
    large.push(&[("a.bin", &content)]);
    // Another host (another port) gets what is set for it, and nothing of the remote's.
    let output =
        finish(&mut large.sync(&["--one-time", "--lfs=on", "--git-config=http.extraHeader:X-Own: S3CR3T"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains(&url), "{}", text(&output));
    let asked = large.lfs.log().into_iter().rfind(|line| line.starts_with("api POST /lfs/")).unwrap();
    assert!(!asked.contains("authorization") && !asked.contains("S3CR3T"), "{asked}");
    let more = serde_json::json!({ "url": url, "username": LOGIN.0, "password": LOGIN.1 });
    succeed(&mut large.sync(&["--one-time", "--lfs=on", &format!("--credential={more}")]));
    assert!(large.read("a.bin") == content);
    // A setting wins.
    fs::remove_dir_all(large.site.root()).unwrap();
    let own = format!("--git-config=lfs.url:\"{}/info/lfs\"", large.http.url());
    succeed(&mut large.sync(&["--one-time", "--lfs=on", &own]));
    assert!(large.read("a.bin") == content);
}

#[test]
#[ignore = "needs git-lfs, nginx and fcgiwrap"]
fn damage_is_repaired_and_the_page_tells() {
    let large = Large::new();
    let content = bytes(4, 50_000);
    large.push(&[("a.bin", &content)]);
    let port = free_port();
    let bind = format!("--http-bind=127.0.0.1:{port}");
    let _running = Running::start(&mut large.sync(&["--lfs=on", "--period=20ms", &bind, "--http-metrics"]));
    eventually("the tree", || large.site.link().exists().then_some(()));
    fs::write(large.site.link().join("a.bin"), "somebody's").unwrap();
    eventually("the file as it was", || (large.read("a.bin") == content).then_some(()));
    // The index follows the file.
    eventually("a clean status", || {
        git(&large.site.link(), &["status", "--porcelain"]).is_empty().then_some(())
    });
    // The object damaged on disk, and then the file: both come anew.
    let oid = large.oid("a.bin");
    let object = large.site.root().join(format!(".git/lfs/objects/{}/{}/{oid}", &oid[..2], &oid[2..4]));
    fs::write(&object, bytes(5, 50_000)).unwrap();
    fs::write(large.site.link().join("a.bin"), "somebody's").unwrap();
    eventually("the file as it was", || (large.read("a.bin") == content).then_some(()));
    let page = eventually("the page", || get(port, "/status.json")).1;
    assert!(page.contains("1 objects of 50000 bytes"), "{page}");
    let metrics = get(port, "/metrics").unwrap().1;
    assert!(metrics.contains("git_sync_lfs_objects_total{outcome=\"downloaded\"} 2"), "{metrics}");
    assert!(metrics.contains("git_sync_lfs_downloaded_bytes_total 100000"), "{metrics}");
}

#[test]
#[ignore = "needs git-lfs, nginx and fcgiwrap"]
fn a_repository_on_this_machine_and_a_submodule() {
    let large = Large::new();
    let content = bytes(6, 40_000);
    large.push(&[("a.bin", &content)]);
    let work = large.site.work();
    // The work folder has the objects itself.
    let path = work.display().to_string();
    succeed(&mut large.site.sync_from(&path, &["--one-time", "--lfs=on"]));
    assert!(large.read("a.bin") == content);
    let output = {
        fs::remove_dir_all(large.site.root()).unwrap();
        finish(&mut large.site.sync(&["--one-time", "--lfs=on", "--ref=main"]))
    };
    assert!(text(&output).contains("it has no such object"), "{}", text(&output));
    // As a submodule of another one.
    let outer = Site::new();
    git(&outer.work(), &["-c", "protocol.file.allow=always", "submodule", "add", "-q", &path, "inner"]);
    outer.commit();
    succeed(&mut outer.sync(&["--one-time", "--lfs=on", "--ref=main"]));
    assert_eq!(fs::read(outer.link().join("inner/a.bin")).unwrap(), content);
    assert_eq!(git(&outer.link(), &["status", "--porcelain"]), "");
}
