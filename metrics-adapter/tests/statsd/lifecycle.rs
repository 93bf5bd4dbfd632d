//! Reloads, ends, and what is refused at the start.

use std::io::Write;
use std::os::unix::fs::symlink;

use crate::harness::{Adapter, command, eventually};

const OLD: &str = "mappings:\n- match: a.*\n  name: old\n";
const NEW: &str = "mappings:\n- match: a.*\n  name: new\n";
const BROKEN: &str = "mappings:\n- match: a.*\n  nme: new\n";
const SUCCESS: &str = "statsd_exporter_config_reloads_total{outcome=\"success\"}";
const FAILURE: &str = "statsd_exporter_config_reloads_total{outcome=\"failure\"}";

#[test]
fn a_changed_file_is_read_again_and_a_broken_one_is_not_used() {
    let adapter = Adapter::with_mapping(OLD, &[]);
    adapter.send("a.b:1|c");
    adapter.wait_for("old", 1.0);
    std::fs::write(adapter.mapping(), BROKEN).unwrap();
    adapter.wait_for(FAILURE, 1.0);
    assert!(
        adapter.log().contains("mapping.yml:3: unknown key `nme`, did you mean `name`?"),
        "{}",
        adapter.log()
    );
    adapter.send("a.b:1|c");
    adapter.wait_for("old", 2.0);
    std::fs::write(adapter.mapping(), NEW).unwrap();
    adapter.wait_for(SUCCESS, 1.0);
    adapter.send("a.b:1|c");
    adapter.wait_for("new", 1.0);
    adapter.wait_for("old", 2.0);
}

#[test]
fn a_file_that_is_being_written_is_not_read_half() {
    let adapter = Adapter::with_mapping(OLD, &[]);
    // Emptied first, as editors and shells do; until it has content the old rules stay.
    let mut file = std::fs::File::create(adapter.mapping()).unwrap();
    eventually("the empty file being seen", || adapter.log().contains("is empty now").then_some(()));
    adapter.send("a.b:1|c");
    adapter.wait_for("old", 1.0);
    file.write_all(NEW.as_bytes()).unwrap();
    adapter.wait_for(SUCCESS, 1.0);
    adapter.send("a.b:1|c");
    adapter.wait_for("new", 1.0);
    // Asked for, an empty file is what it is.
    drop(std::fs::File::create(adapter.mapping()).unwrap());
    adapter.signal("-HUP");
    adapter.wait_for(SUCCESS, 2.0);
    adapter.send("a.b:1|c");
    adapter.wait_for("a_b", 1.0);
}

#[test]
fn a_config_map_swap_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    for (version, text) in [("..1", OLD), ("..2", NEW)] {
        std::fs::create_dir(directory.path().join(version)).unwrap();
        std::fs::write(directory.path().join(version).join("mapping.yml"), text).unwrap();
    }
    symlink("..1", directory.path().join("..data")).unwrap();
    symlink("..data/mapping.yml", directory.path().join("mapping.yml")).unwrap();
    let flag = format!("--statsd.mapping-config={}", directory.path().join("mapping.yml").display());
    let adapter = Adapter::start_in(directory, &[&flag]);
    let directory = adapter.directory.path();
    symlink("..2", directory.join("..next")).unwrap();
    std::fs::rename(directory.join("..next"), directory.join("..data")).unwrap();
    adapter.wait_for(SUCCESS, 1.0);
    adapter.send("a.b:1|c");
    adapter.wait_for("new", 1.0);
}

#[test]
fn hangup_and_the_lifecycle_paths_reload() {
    let adapter = Adapter::with_mapping(OLD, &["--web.enable-lifecycle"]);
    adapter.signal("-HUP");
    adapter.wait_for(SUCCESS, 1.0);
    assert_eq!(adapter.status("GET", "/-/reload"), 200);
    assert_eq!(adapter.status("POST", "/-/reload"), 200);
    adapter.wait_for(SUCCESS, 2.0);
    assert_eq!(adapter.status("PUT", "/-/reload"), 200);
    adapter.wait_for(SUCCESS, 3.0);
}

#[test]
fn quit_ends_it_only_when_asked_properly() {
    let mut adapter = Adapter::start(&["--web.enable-lifecycle"]);
    assert_eq!(adapter.request("GET", "/-/quit", "").1, b"");
    assert_eq!(adapter.status("GET", "/-/healthy"), 200);
    assert_eq!(adapter.status("POST", "/-/healthy"), 405);
    assert_eq!(adapter.status("GET", "/-/ready"), 200);
    assert_eq!(adapter.status("POST", "/-/quit"), 200);
    assert!(adapter.wait().success());
    let adapter = Adapter::start(&[]);
    assert_eq!(adapter.status("POST", "/-/quit"), 404);
    assert_eq!(adapter.status("POST", "/-/reload"), 404);
}

#[test]
fn series_expire_and_start_anew() {
    let adapter = Adapter::with_mapping(
        "defaults:\n  ttl: 1s\nmappings:\n- match: kept.*\n  name: kept\n  ttl: 1h\n",
        &[],
    );
    adapter.send("gone:5|c\nkept.x:1|c");
    adapter.wait_for("gone", 5.0);
    eventually("expiry", || adapter.value("gone").is_none().then_some(()));
    adapter.send("gone:1|c");
    adapter.wait_for("gone", 1.0);
    adapter.wait_for("kept", 1.0);
}

#[test]
fn wrong_flags_and_files_are_named() {
    for (arguments, status, says) in [
        (
            &["--statsd.listen-udq=:1"][..],
            2,
            "unknown flag `--statsd.listen-udq`, did you mean `--statsd.listen-udp`?",
        ),
        (&["--statsd.cache-type=lfu"], 2, "--statsd.cache-type: `lfu` is neither lru nor random"),
        (&["--statsd.cache-size=many"], 2, "--statsd.cache-size"),
        (&["--web.listen-address=nowhere"], 2, "--web.listen-address"),
        (&["--statsd.relay.address=nowhere"], 2, "--statsd.relay.address"),
        (&["nonsense"], 2, "unknown command `nonsense`"),
        // What is no mistake of a flag ends as in the peer.
        (&["--statsd.listen-udp=", "--statsd.listen-tcp="], 1, "at least one of --statsd.listen-udp"),
        (&["--statsd.mapping-config=/nonexistent.yml"], 1, "/nonexistent.yml"),
        (&["--statsd.mapping-config=/nonexistent.yml", "--check-config"], 1, "/nonexistent.yml"),
    ] {
        let output = command(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.yml");
    std::fs::write(&path, BROKEN).unwrap();
    let flag = format!("--statsd.mapping-config={}", path.display());
    for arguments in [&[&*flag][..], &[&*flag, "--check-config"]] {
        let output = command(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("m.yml:3: unknown key `nme`, did you mean `name`?"), "{error}");
    }
    std::fs::write(&path, OLD).unwrap();
    assert!(command(&[&flag, "--check-config"]).status.success());
}

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    let adapter = Adapter::start(&[]);
    let address = adapter.web.to_string();
    let flag = format!("--web.listen-address={address}");
    let output = command(&[&flag, "--statsd.listen-udp=127.0.0.1:0", "--statsd.listen-tcp=127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address), "{output:?}");
}

#[test]
fn the_state_machine_is_dumped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fsm.dot");
    let _adapter = Adapter::with_mapping(OLD, &[&format!("--debug.dump-fsm={}", path.display())]);
    assert!(std::fs::read_to_string(path).unwrap().starts_with("digraph g {"));
}

#[test]
fn flags_of_the_event_queue_are_taken_checked_and_explained() {
    let flags = [
        "--statsd.event-queue-size=20000",
        "--statsd.event-flush-threshold=10",
        "--statsd.event-flush-interval=5s",
    ];
    let adapter = Adapter::start(&flags);
    adapter.send("at.once:1|c");
    adapter.wait_for("at_once", 1.0);
    let log = adapter.log();
    for flag in flags {
        let name = flag.split('=').next().unwrap();
        assert_eq!(log.matches(&format!("{name} changes nothing: ")).count(), 1, "{log}");
    }
    assert!(!Adapter::start(&[]).log().contains("changes nothing"));
    for wrong in ["--statsd.event-queue-size=-1", "--statsd.event-flush-interval=soon"] {
        assert_eq!(command(&[wrong]).status.code(), Some(2), "{wrong}");
    }
}
