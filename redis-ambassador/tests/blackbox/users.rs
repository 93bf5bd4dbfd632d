//! Passwords and users from files, passed through or mapped.

use crate::harness::{Ambassador, Server, eventually};
use std::path::Path;

fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_changed_password_file_counts_for_new_connections() {
    let server = Server::start(&[]);
    let mut admin = server.client();
    assert_eq!(admin.say("ACL SETUSER app on >first ~* &* +@all"), "OK");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    let file = write(&path, "first\n");
    let flags = ["--upstream-user", "app", "--upstream-password-file", &file];
    let ambassador = Ambassador::start(&server, &[], &flags);
    let mut client = ambassador.client();
    assert_eq!(client.say("ACL WHOAMI"), "app");
    assert_eq!(admin.say("ACL SETUSER app resetpass >second"), "OK");
    write(&path, "second\n");
    // Those that are open stay; what is opened from now on needs the new password.
    eventually("connections are made with the new password", || {
        admin.say("CLIENT KILL USER app");
        client.say("ACL WHOAMI") == "app"
    });
    assert_eq!(client.say("SET k v"), "OK");
}

#[test]
fn clients_are_mapped_to_the_servers_users() {
    let server = Server::start(&[]);
    let mut admin = server.client();
    assert_eq!(admin.say("ACL SETUSER reader on >one ~* &* +@read +@connection +acl|whoami"), "OK");
    assert_eq!(admin.say("ACL SETUSER writer on >two ~* &* +@all"), "OK");
    assert_eq!(admin.say("ACL SETUSER default off"), "OK");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let text = format!("web guess reader one\njobs #{digest} writer two\n");
    let users = write(&path, &text);
    let probes = write(&directory.path().join("probes"), "two");
    let flags =
        ["--client-users-file", &users, "--upstream-user", "writer", "--upstream-password-file", &probes];
    let ambassador = Ambassador::start(&server, &[], &flags);

    let mut client = ambassador.client();
    for line in ["GET k", "MULTI", "SUBSCRIBE c", "CLIENT ID"] {
        assert_eq!(client.say(line), "NOAUTH Authentication required.", "{line}");
    }
    assert!(client.say("HELLO 3").starts_with("NOAUTH HELLO must be called"));
    for line in ["AUTH web wrong", "AUTH writer two", "AUTH jobs guess", "AUTH guess"] {
        assert!(client.say(line).starts_with("WRONGPASS"), "{line}");
    }
    assert_eq!(client.say("AUTH web guess"), "OK");
    assert_eq!(client.say("ACL WHOAMI"), "reader");
    assert_eq!(client.say("SET k v"), "NOPERM this user has no permissions to run the 'set' command");
    assert!(client.say("HELLO 3 AUTH jobs test").contains("proto 3"));
    assert_eq!(client.say("ACL WHOAMI"), "writer");
    assert_eq!(client.say("SET k v"), "OK");
    // In a transaction, over a connection of its own.
    assert_eq!(client.say("MULTI"), "OK");
    assert_eq!(client.say("ACL WHOAMI"), "QUEUED");
    assert_eq!(client.say("EXEC"), "writer");
    assert_eq!(client.say("RESET"), "RESET");
    assert_eq!(client.say("GET k"), "NOAUTH Authentication required.");
    // A stranger may not claim much.
    client.send_raw(b"*2\r\n$4\r\nAUTH\r\n$20000\r\n");
    assert!(client.read().text().contains("invalid bulk length"));
    assert!(client.is_closed());

    write(&path, "new word writer two\n");
    let mut client = ambassador.client();
    eventually("the file is read again", || client.say("AUTH new word") == "OK");
    assert!(client.say("AUTH web guess").starts_with("WRONGPASS"));
    assert_eq!(client.say("ACL WHOAMI"), "writer");
}
