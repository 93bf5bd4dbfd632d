//! Servers named by a file, and a configuration that changes.

use crate::harness::{Ambassador, Server, eventually};

#[test]
fn servers_come_and_go_with_a_file() {
    let primary = Server::start(&[]);
    let replicas = [Server::replica_of(&primary, &[]), Server::replica_of(&primary, &[])];
    for replica in &replicas {
        let mut client = replica.client();
        eventually("the replica is in sync", || client.say("ROLE").contains(" connected "));
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("servers");
    let write = |servers: &[&Server]| {
        let lines: String = servers.iter().map(|server| format!("{}\n", server.address())).collect();
        std::fs::write(directory.path().join("new"), format!("# servers\n{lines}")).unwrap();
        std::fs::rename(directory.path().join("new"), &file).unwrap();
    };
    write(&[&primary, &replicas[0]]);
    let ambassador =
        Ambassador::with_arguments(&["--discover".to_owned(), format!("file:{}", file.display())]);
    let mut client = ambassador.client();
    let served = |client: &mut crate::harness::Client, server: &Server| {
        let sample = format!("redis_ambassador_answers_total{{server=\"{}\"}}", server.address());
        let before = ambassador.metric(&sample);
        (0..20).for_each(|_| assert_eq!(client.say("GET nothing"), "(nil)"));
        ambassador.metric(&sample) > before
    };
    assert_eq!(client.say("SET k v"), "OK");
    eventually("the first replica serves", || served(&mut client, &replicas[0]));
    assert!(!served(&mut client, &replicas[1]));
    // The other replica takes its place; the client's connection stays.
    write(&[&primary, &replicas[1]]);
    eventually("the second replica serves", || served(&mut client, &replicas[1]));
    eventually("the first replica is let go", || !served(&mut client, &replicas[0]));
    // A mistake in the file changes nothing.
    std::fs::write(&file, "nonsense\n").unwrap();
    assert_eq!(client.say("SET k w"), "OK");
    write(&[&primary, &replicas[0], &replicas[1]]);
    eventually("the first replica is back", || served(&mut client, &replicas[0]));
    assert_eq!(client.say("GET k"), "w");
}

#[test]
fn every_address_of_a_name_is_asked() {
    let primary = Server::start(&[]);
    let ambassador = Ambassador::with_arguments(&[
        "--discover".to_owned(),
        format!("dns:localhost:{}", primary.port),
        "--discover-interval".to_owned(),
        "50ms".to_owned(),
    ]);
    assert_eq!(ambassador.client().say("SET k v"), "OK");
    assert!(ambassador.get("/status.json").contains(&format!("127.0.0.1:{}", primary.port)));
}

#[test]
fn a_changed_configuration_is_taken_over_without_dropping_a_connection() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(&primary, &[]);
    let mut direct = replica.client();
    eventually("the replica is in sync", || direct.say("ROLE").contains(" connected "));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, format!("primary: {}\ndeny: [FLUSHALL]\n", primary.address())).unwrap();
    let ambassador = Ambassador::with_arguments(&["--config".to_owned(), file.display().to_string()]);
    let mut client = ambassador.client();
    assert_eq!(client.say("CLIENT SETNAME me"), "OK");
    assert!(client.say("FLUSHALL").starts_with("NOPERM"));
    assert_eq!(client.say("CONFIG GET save"), "save ");
    let text = format!(
        "primary: {}\nreplica: [\"{}\"]\ndeny: [CONFIG|GET]\nmax-clients: 1\n",
        primary.address(),
        replica.address()
    );
    std::fs::write(&file, text).unwrap();
    eventually("CONFIG GET is denied", || client.say("CONFIG GET save").starts_with("NOPERM"));
    assert_eq!(client.say("CLIENT GETNAME"), "me");
    assert_eq!(client.say("FLUSHALL"), "OK");
    assert!(ambassador.client().try_read().unwrap().text().contains("max number of clients"));
    let sample = format!("redis_ambassador_answers_total{{server=\"{}\"}}", replica.address());
    eventually("the new replica serves", || {
        client.say("GET k");
        ambassador.metric(&sample) > 0.0
    });
    // What is wrong changes nothing; at a signal it is read as well.
    std::fs::write(&file, "primary: nowhere\n").unwrap();
    ambassador.process.signal("-HUP");
    assert_eq!(client.say("SET k v"), "OK");
    std::fs::write(&file, format!("primary: {}\n", primary.address())).unwrap();
    ambassador.process.signal("-HUP");
    eventually("CONFIG GET is allowed", || client.say("CONFIG GET save") == "save ");
    assert_eq!(client.say("CLIENT GETNAME"), "me");
}
