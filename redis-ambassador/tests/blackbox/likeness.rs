//! What only a look at the server itself would tell apart.

use crate::harness::{Ambassador, Client, Server, Trio, Value, eventually};
use std::collections::HashSet;

#[test]
fn a_name_is_shown_to_the_servers_and_leaves_with_its_client() {
    let trio = Trio::start(&[]);
    let mut looker = trio.primary.client();
    let count = |looker: &mut crate::harness::Client, name: &str| {
        looker.say("CLIENT LIST").matches(&format!("name={name} ")).count()
    };
    let (mut one, mut two, mut other) = (trio.client(), trio.client(), trio.client());
    assert_eq!(one.say("CLIENT SETNAME twin"), "OK");
    assert_eq!(two.say("CLIENT SETNAME twin"), "OK");
    assert_eq!(other.say("CLIENT SETNAME lone"), "OK");
    assert_eq!((count(&mut looker, "twin"), count(&mut looker, "lone")), (1, 1));
    assert_eq!((one.say("SET k 1"), other.say("GET k")), ("OK".to_owned(), "1".to_owned()));
    drop(other);
    drop(one);
    eventually("the name is gone", || count(&mut looker, "lone") == 0);
    assert_eq!(count(&mut looker, "twin"), 1);
    assert_eq!(two.say("CLIENT SETNAME new"), "OK");
    eventually("the old name is gone", || count(&mut looker, "twin") == 0);
    assert_eq!(count(&mut looker, "new"), 1);
}

#[test]
fn a_pause_holds_up_whom_it_concerns_and_ends() {
    for threads in ["1", "2"] {
        let trio = Trio::start(&["--threads", threads]);
        // Of every thread some.
        let mut operators: Vec<Client> = (0..8).map(|_| trio.client()).collect();
        let mut writers: Vec<Client> = (0..8).map(|_| trio.client()).collect();
        for round in 0..8 {
            assert_eq!(operators[round].say("CLIENT PAUSE 60000 WRITE"), "OK");
            writers.iter_mut().for_each(|writer| writer.send("INCR n"));
            let looker = &mut operators[0];
            eventually("all are held up", || looker.say("INFO clients").contains("blocked_clients:8\r\n"));
            operators.iter_mut().for_each(|other| assert_eq!(other.say("OBJECT FREQ other"), "(nil)"));
            assert_eq!(operators[7 - round].say("CLIENT UNPAUSE"), "OK");
            let answers: HashSet<String> = writers.iter_mut().map(|writer| writer.read().text()).collect();
            assert_eq!(answers, (8 * round + 1..8 * round + 9).map(|n| n.to_string()).collect());
        }
    }
}

#[test]
fn who_is_killed_is_closed_and_nobody_else() {
    let trio = Trio::start(&["--threads", "2"]);
    let mut other = trio.client();
    let mut clients: Vec<Client> = (0..6).map(|_| trio.client()).collect();
    let numbers: Vec<String> = clients.iter_mut().map(|client| client.say("CLIENT ID")).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        match at % 3 {
            0 => client.send("BLPOP list 0"),
            1 => assert_eq!(client.say("MULTI"), "OK"),
            // It only has a number.
            _ => {}
        }
    }
    eventually("two wait", || other.say("INFO clients").contains("blocked_clients:2\r\n"));
    for number in &numbers[..3] {
        assert_eq!(other.say(&format!("CLIENT KILL ID {number}")), "1");
    }
    clients[..3].iter_mut().for_each(|client| assert!(client.is_closed()));
    assert_eq!(other.say("RPUSH list a"), "1");
    assert_eq!(clients[3].read().text(), "list a");
    assert_eq!((clients[4].say("EXEC"), clients[5].say("CLIENT ID")), (String::new(), numbers[5].clone()));
}

#[test]
fn a_name_that_is_refused_is_not_taken_on() {
    let server = Server::start(&[]);
    let ambassador = Ambassador::start(&server, &[], &[]);
    let mut client = ambassador.client();
    assert_eq!(client.say("ACL SETUSER bob on >secret ~* +@all -client|setname"), "OK");
    assert_eq!(client.say("CLIENT SETNAME before"), "OK");
    assert_eq!(client.say("AUTH bob secret"), "OK");
    let refused = |client: &mut Client| {
        assert!(client.say("CLIENT SETNAME after").starts_with("NOPERM"));
        assert_eq!(client.say("CLIENT GETNAME"), "before");
        assert!(
            client.say("CLIENT LIST").contains(" name=before ")
                && !client.say("CLIENT LIST").contains("after")
        );
    };
    refused(&mut client);
    // Nor where it has a connection of its own.
    client.say("CLIENT ID");
    refused(&mut client);
    assert_eq!(client.say("AUTH default nothing"), "OK");
    assert_eq!(
        (client.say("CLIENT SETNAME after"), client.say("CLIENT GETNAME")),
        ("OK".to_owned(), "after".to_owned())
    );
}

#[test]
fn who_monitors_sees_the_reads() {
    // Otherwise they go to the primary anyway for a moment, as after any command that may write.
    let trio = Trio::start(&["--threads", "2", "--consistency", "eventual"]);
    let mut monitor = trio.client();
    let mut clients: Vec<Client> = (0..8).map(|_| trio.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.say("GET warm"), "(nil)"));
    assert_eq!(monitor.say("MONITOR"), "OK");
    for (at, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.say(&format!("GET seen:{at}")), "(nil)");
        let told = format!("\"GET\" \"seen:{at}\"");
        eventually("the read is told", || monitor.read().text().contains(&told));
    }
}

#[test]
fn a_database_may_be_chosen_before_a_user_who_may_not_choose() {
    let server = Server::start(&[]);
    let ambassador = Ambassador::start(&server, &[], &[]);
    let mut client = ambassador.client();
    assert_eq!(client.say("ACL SETUSER bob on >secret +@read +set ~*"), "OK");
    assert_eq!(client.say("SELECT 3"), "OK");
    assert_eq!(client.say("AUTH bob secret"), "OK");
    assert_eq!(client.say("SET k v"), "OK");
    let mut direct = server.client();
    assert_eq!(direct.say("SELECT 3"), "OK");
    assert_eq!(direct.say("GET k"), "v");
    assert!(client.say("SELECT 4").starts_with("NOPERM"));
}

#[test]
fn whoever_had_the_database_before_may_be_another_user() {
    let server = Server::start(&[]);
    let ambassador = Ambassador::start(&server, &[], &[]);
    let mut client = ambassador.client();
    assert_eq!(client.say("ACL SETUSER bob on >secret +@read +set ~*"), "OK");
    assert_eq!(client.say("SELECT 3"), "OK");
    // The ambassador is nobody from here on.
    assert_eq!(client.say("CONFIG SET requirepass word"), "OK");
    assert_eq!(client.say("AUTH word"), "OK");
    assert_eq!(client.say("AUTH bob secret"), "OK");
    assert_eq!(client.say("SET k v"), "OK");
    assert!(client.say("SELECT 4").starts_with("NOPERM"));
    assert_eq!(client.say("GET k"), "v");
}

#[test]
fn a_slow_log_of_everything_has_the_reads_too() {
    let trio = Trio::start(&[]);
    let mut client = trio.client();
    assert_eq!(client.say("CONFIG SET maxmemory 0 slowlog-log-slower-than 0"), "OK");
    assert_eq!(client.say("SLOWLOG RESET"), "OK");
    (0..20).for_each(|number| assert_eq!(client.say(&format!("GET k{number}")), "(nil)"));
    assert_eq!(client.say("SLOWLOG GET 50").matches("GET k").count(), 20);
    assert_eq!(client.say("CONFIG SET slowlog-log-slower-than 10000"), "OK");
    eventually("replicas answer again", || {
        let server = trio.replicas[0].address();
        client.say("GET k");
        trio.ambassador.metric(&format!("redis_ambassador_answers_total{{server=\"{server}\"}}")) > 0.0
    });
}

#[test]
fn others_get_around_a_script_that_they_were_behind_already() {
    let server = Server::start(&[]);
    let ambassador = Ambassador::start(&server, &[], &[]);
    let (mut busy, mut other) = (ambassador.client(), ambassador.client());
    assert_eq!(other.say("CONFIG SET lua-time-limit 10"), "OK");
    busy.send_words(&[b"EVAL", b"while true do end", b"0"]);
    eventually("the server is busy", || other.say("PING").starts_with("BUSY"));
    eventually("it ends", || other.say("SCRIPT KILL") == "OK");
    assert!(busy.read().text().contains("killed by user"));
    eventually("it answers again", || other.say("PING") == "PONG");
}

#[test]
fn a_scan_over_a_change_of_primary_leaves_nothing_out() {
    let mut primary = Server::start(&[]);
    let replica = Server::replica_of(&primary, &[]);
    let ambassador = Ambassador::start(&primary, &[&replica], &[]);
    let mut client = ambassador.client();
    let members: Vec<String> = (0..2000).map(|number| format!("m{number}")).collect();
    let mut words: Vec<&[u8]> = vec![b"SADD", b"s"];
    words.extend(members.iter().map(String::as_bytes));
    client.send_words(&words);
    assert_eq!(client.read().text(), "2000");
    assert_eq!(client.say("WAIT 1 5000"), "1");
    let mut seen = HashSet::new();
    let mut cursor = "0".to_owned();
    let mut rounds = 0;
    loop {
        client.send(&format!("SSCAN s {cursor} COUNT 50"));
        let Value::Array(answer) = client.read() else { panic!("SSCAN is answered with an array") };
        let Value::Array(found) = &answer[1] else { panic!("and that holds another") };
        seen.extend(found.iter().map(Value::text));
        cursor = answer[0].text();
        rounds += 1;
        if cursor == "0" {
            break;
        }
        if rounds == 10 {
            primary.kill();
            assert_eq!(replica.client().say("REPLICAOF NO ONE"), "OK");
            eventually("the new primary is used", || client.say("SET k v") == "OK");
        }
    }
    assert!(rounds > 40, "it began anew: {rounds} rounds");
    assert_eq!(seen.len(), members.len());
}
