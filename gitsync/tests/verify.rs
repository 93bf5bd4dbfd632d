//! Signatures made by the real git with real ssh-keygen and gpg.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/pushed.rs"]
mod pushed;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pushed::Pushed;
use support::{Site, finish, git, run, succeed, text};

fn key(site: &Site, name: &str, kind: &str) -> PathBuf {
    let path = site.dir.path().join(name);
    run(Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-C", name, "-f"]).arg(&path));
    path
}

fn public(path: &Path) -> String {
    fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_owned()
}

fn sign_with(site: &Site, key: &Path) {
    for (name, value) in [("gpg.format", "ssh"), ("user.signingkey", key.to_str().unwrap())] {
        git(&site.work(), &["config", name, value]);
    }
}

fn commit(site: &Site, content: &str, flag: &str) -> String {
    fs::write(site.work().join("a"), content).unwrap();
    git(&site.work(), &["add", "-A"]);
    git(&site.work(), &["commit", "-q", flag, "--allow-empty", "-m", "a change\n\nwith a body"]);
    git(&site.work(), &["push", "-q", "-f", "origin", "HEAD:main"]);
    git(&site.work(), &["rev-parse", "HEAD"]).trim().to_owned()
}

/// Pushes the last commit with another message under the same signature.
fn forge(site: &Site) {
    let raw = git(&site.work(), &["cat-file", "commit", "HEAD"]).replace("a change", "another change");
    fs::write(site.dir.path().join("raw"), raw).unwrap();
    let forged = git(
        &site.work(),
        &["hash-object", "-t", "commit", "-w", site.dir.path().join("raw").to_str().unwrap()],
    );
    git(&site.work(), &["push", "-q", "-f", "origin", &format!("{}:main", forged.trim())]);
}

#[test]
fn commits_that_nobody_allowed_signed_stay_out() {
    let site = Site::new();
    let (mine, other) = (key(&site, "mine", "ed25519"), key(&site, "other", "ed25519"));
    let allowed = site.dir.path().join("allowed");
    fs::write(&allowed, format!("# who may\nme@x namespaces=\"git\" {}\n", public(&mine))).unwrap();
    sign_with(&site, &mine);
    let good = commit(&site, "1", "-S");
    let file = format!("--verify-allowed-signers-file={}", allowed.display());
    let pushed = Pushed::start(site, &["--verify=head", &file, "--error-file=error.json"]);
    let site = &pushed.site;
    let refused = |reason: &str| {
        let (status, answer) = pushed.sync();
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(status == 502 && error.contains(reason), "{answer}");
        assert_eq!(site.published(), good);
        assert!(fs::read_to_string(site.root().join("error.json")).unwrap().contains(reason));
    };
    commit(site, "2", "--no-gpg-sign");
    refused("not signed");
    sign_with(site, &other);
    commit(site, "3", "-S");
    refused("no such key is allowed");
    // Somebody else's content under a good signature.
    sign_with(site, &mine);
    commit(site, "4", "-S");
    forge(site);
    refused("the signature is bad");
    for (outcome, count) in [("unsigned", 1.0), ("unknown_key", 1.0), ("bad", 1.0)] {
        let line = format!("git_sync_signature_checks_total{{outcome=\"{outcome}\"}}");
        assert_eq!(pushed.metric(&line), Some(count), "{outcome}");
    }
    // A new key counts without a restart.
    sign_with(site, &other);
    let new = commit(site, "5", "-S");
    let options = "valid-after=\"20200101\",namespaces=\"file,g*\"";
    fs::write(&allowed, format!("a,b@x {} me\nme@x {options} {}\n", public(&mine), public(&other))).unwrap();
    assert_eq!(pushed.sync().0, 200);
    assert_eq!(site.published(), new);
    fs::write(&allowed, format!("me@x valid-before=\"20200101\" {}\n", public(&other))).unwrap();
    commit(site, "6", "-S");
    assert!(pushed.sync().1["error"].as_str().unwrap().contains("isn't allowed for git at that time"));
}

#[test]
fn every_new_commit_and_tags_are_looked_at() {
    let site = Site::new();
    let allowed = site.dir.path().join("allowed");
    let file = format!("--verify-allowed-signers-file={}", allowed.display());
    let mut lines = String::new();
    // Whatever ssh-keygen makes.
    for kind in ["ecdsa", "rsa", "ed25519"] {
        let key = key(&site, kind, kind);
        lines += &format!("* {}\n", public(&key));
        fs::write(&allowed, &lines).unwrap();
        sign_with(&site, &key);
        commit(&site, kind, "-S");
        succeed(&mut site.sync(&["--one-time", "--verify=head", &file]));
        assert_eq!(site.read("a"), kind);
    }
    let all = ["--one-time", "--verify=all-new", "--depth=0", &file];
    succeed(&mut site.sync(&all));
    // A merge of signed commits is fine; an unsigned one below a signed one isn't.
    git(&site.work(), &["checkout", "-q", "-b", "side", "HEAD~1"]);
    fs::write(site.work().join("b"), "x").unwrap();
    git(&site.work(), &["add", "-A"]);
    git(&site.work(), &["commit", "-q", "-S", "-m", "side"]);
    git(&site.work(), &["checkout", "-q", "-B", "main", "main"]);
    git(&site.work(), &["merge", "-q", "-S", "-m", "merge", "side"]);
    let merged = commit(&site, "merged", "-S");
    succeed(&mut site.sync(&all));
    assert_eq!(site.published(), merged);
    let hidden = commit(&site, "hidden", "--no-gpg-sign");
    let top = commit(&site, "top", "-S");
    let refused = finish(&mut site.sync(&all));
    assert!(text(&refused).contains(&hidden), "{}", text(&refused));
    assert_eq!((refused.status.code(), site.published()), (Some(1), merged));
    succeed(&mut site.sync(&["--one-time", "--verify=head", "--depth=0", &file]));
    assert_eq!(site.published(), top);
    // A tag's own signature counts, and an unsigned tag doesn't get by on its commit's.
    git(&site.work(), &["tag", "-s", "-m", "v1", "v1"]);
    git(&site.work(), &["tag", "-a", "--no-sign", "-m", "v2", "v2"]);
    git(&site.work(), &["push", "-q", "origin", "v1", "v2"]);
    succeed(&mut site.sync(&["--one-time", "--verify=head", "--ref=v1", &file]));
    let refused = finish(&mut site.sync(&["--one-time", "--verify=head", "--ref=v2", &file]));
    assert!(text(&refused).contains("tag ") && text(&refused).contains("not signed"), "{}", text(&refused));
    for wrong in [&["--verify=head"][..], &[&file], &["--verify=all-new", &file], &["--verify=some"]] {
        assert!(finish(&mut site.sync(wrong)).status.code().is_some_and(|code| code > 0), "{wrong:?}");
    }
}

#[cfg(not(feature = "openpgp"))]
#[test]
fn a_keyring_is_refused_where_nothing_can_read_it() {
    let site = Site::new();
    let refused = finish(&mut site.sync(&["--verify=head", "--verify-openpgp-keyring=/x"]));
    assert!(text(&refused).contains("has no OpenPGP"), "{}", text(&refused));
}

#[cfg(feature = "openpgp")]
#[test]
fn openpgp_signatures_of_the_real_gpg() {
    let site = Site::new();
    let home = site.dir.path().join("gpg");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let gpg = |arguments: &[&str]| {
        let plain =
            ["--batch", "--quiet", "--yes", "--passphrase", "", "--pinentry-mode", "loopback", "--homedir"];
        run(Command::new("gpg").args(plain).arg(&home).args(arguments))
    };
    let program = site.dir.path().join("gpg.sh");
    fs::write(&program, format!("#!/bin/sh\nexec gpg --batch --homedir {} \"$@\"\n", home.display()))
        .unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    git(&site.work(), &["config", "gpg.program", program.to_str().unwrap()]);
    let keyring = site.dir.path().join("keyring");
    let file = format!("--verify-openpgp-keyring={}", keyring.display());
    let arguments = ["--one-time", "--verify=head", &file];
    for (who, kind) in [("ed@x", "ed25519"), ("rsa@x", "rsa2048"), ("p@x", "nistp256")] {
        gpg(&["--quick-gen-key", who, kind, "sign", "1d"]);
        git(&site.work(), &["config", "user.signingkey", who]);
        commit(&site, who, "-S");
        fs::write(&keyring, gpg(&["--armor", "--export"])).unwrap();
        succeed(&mut site.sync(&arguments));
        assert_eq!(site.read("a"), who);
    }
    // A subkey for signing.
    gpg(&["--quick-gen-key", "sub@x", "ed25519", "cert", "1d"]);
    let listing = gpg(&["--with-colons", "--list-keys", "sub@x"]);
    let fingerprint = listing
        .lines()
        .find_map(|line| line.strip_prefix("fpr:::::::::"))
        .unwrap()
        .trim_end_matches(':')
        .to_owned();
    gpg(&["--quick-add-key", &fingerprint, "ed25519", "sign", "1d"]);
    git(&site.work(), &["config", "user.signingkey", "sub@x"]);
    commit(&site, "by a subkey", "-S");
    let refused = finish(&mut site.sync(&arguments));
    assert!(text(&refused).contains("no such key is allowed"), "{}", text(&refused));
    fs::write(&keyring, gpg(&["--armor", "--export"])).unwrap();
    succeed(&mut site.sync(&arguments));
    git(&site.work(), &["tag", "-s", "-m", "v1", "v1"]);
    git(&site.work(), &["push", "-q", "origin", "v1"]);
    succeed(&mut site.sync(&["--one-time", "--verify=head", "--ref=v1", &file]));
    // Forged, revoked.
    forge(&site);
    let refused = finish(&mut site.sync(&arguments));
    assert!(text(&refused).contains("the signature is bad"), "{}", text(&refused));
    commit(&site, "later", "-S");
    let certificate = fs::read_to_string(home.join(format!("openpgp-revocs.d/{fingerprint}.rev"))).unwrap();
    let revocation = site.dir.path().join("revocation");
    fs::write(&revocation, certificate.replace(":-----BEGIN", "-----BEGIN")).unwrap();
    gpg(&["--import", revocation.to_str().unwrap()]);
    fs::write(&keyring, gpg(&["--armor", "--export"])).unwrap();
    let refused = finish(&mut site.sync(&arguments));
    assert!(text(&refused).contains("was revoked"), "{}", text(&refused));
    run(Command::new("gpgconf").arg("--homedir").arg(&home).args(["--kill", "gpg-agent"]));
}
