//! What a session does with the commands that touch the connection.

use super::*;
use crate::command::tests::with_request;

struct Client {
    session: Session,
}

impl Client {
    fn new() -> Self {
        Self { session: Session::new() }
    }

    fn say(&mut self, line: &str) -> String {
        self.say_busy(line, false)
    }

    fn say_busy(&mut self, line: &str, own_busy: bool) -> String {
        let words: Vec<_> = line.split(' ').collect();
        with_request(&words, |table, request| {
            let classified = table.classify(request);
            match self.session.plan(table, request, &classified, own_busy) {
                Plan::Answer(answer) => String::from_utf8_lossy(&answer).trim_end().to_owned(),
                Plan::Shared(effect) => format!("{effect:?}"),
                Plan::Switch(switch, _) => format!("{switch:?}").replace("Switch ", ""),
                other => format!("{other:?}"),
            }
        })
    }
}

#[test]
fn a_transaction_owns_its_connection_until_it_ends() {
    let mut client = Client::new();
    assert_eq!(client.say("GET a"), "Read");
    assert_eq!(client.say("WATCH a"), "Own");
    assert_eq!(client.say("GET a"), "Own");
    assert_eq!(client.say("MULTI"), "Own");
    assert_eq!(client.say("SET a 1"), "Own");
    assert!(client.session.in_transaction());
    assert_eq!(client.say("EXEC"), "Own");
    assert!(!client.session.keeps_own());
    assert_eq!(client.say_busy("GET a", true), "Own");
    assert_eq!(client.say("GET a"), "Read");
    assert_eq!(client.say("EXEC"), "Write");
    assert_eq!(client.say("WATCH a"), "Own");
    assert_eq!(client.say("UNWATCH"), "Own");
    assert!(!client.session.keeps_own());
    assert_eq!(client.say("MULTI x"), "Write");
    assert!(!client.session.keeps_own());
}

#[test]
fn a_selection_queued_in_a_transaction_keeps_the_connection() {
    let mut client = Client::new();
    client.say("MULTI");
    assert_eq!(client.say("SELECT 3"), "Own");
    client.say("EXEC");
    assert_eq!(client.say("GET a"), "Own");
}

#[test]
fn streams_stay_streams() {
    for command in ["SUBSCRIBE a", "MONITOR", "PSYNC ? -1"] {
        let mut client = Client::new();
        assert_eq!(client.say(command), "Raw", "{command}");
        assert_eq!(client.say("GET a"), "Raw");
        assert_eq!(client.say("QUIT"), "Quit");
    }
}

#[test]
fn unwanted_answers_are_left_out() {
    let mut client = Client::new();
    for (line, plan, quiet) in [
        ("CLIENT REPLY SKIP", "Nothing", Quiet::Next),
        ("CLIENT REPLY ON", "+OK", Quiet::No),
        ("CLIENT REPLY OFF", "Nothing", Quiet::Off),
        ("CLIENT REPLY SKIP", "Nothing", Quiet::Off),
        ("CLIENT REPLY ON", "+OK", Quiet::No),
        ("CLIENT REPLY MAYBE", "PrimaryRead", Quiet::No),
    ] {
        assert_eq!((client.say(line).as_str(), client.session.quiet), (plan, quiet), "{line}");
    }
    client.say("CLIENT REPLY SKIP");
    assert!(client.session.takes_no_answer() && !client.session.takes_no_answer());
    client.say("CLIENT REPLY OFF");
    assert!(client.session.takes_no_answer() && client.session.takes_no_answer());
    client.session.reset();
    assert!(!client.session.takes_no_answer());
}

#[test]
fn profiles_switch() {
    let mut client = Client::new();
    assert!(client.say("SELECT 3").contains("db: Some(3)"));
    assert_eq!(client.say("SELECT x"), "PrimaryRead");
    assert_eq!(client.say("SELECT -1"), "PrimaryRead");
    assert!(client.say("HELLO 3").contains("resp3: Some(true)"));
    let hello = client.say("HELLO 3 AUTH u p SETNAME n");
    assert!(hello.contains("auth: Some") && hello.contains("name: Some"), "{hello}");
    // Not before the server has agreed.
    assert_eq!(client.say("CLIENT GETNAME"), "$-1");
    assert_eq!(client.say("HELLO 4"), "-NOPROTO unsupported protocol version");
    assert_eq!(client.say("HELLO 3 AUTH u"), "-ERR Syntax error in HELLO option 'AUTH'");
    assert!(client.say("AUTH p").contains("auth: Some"));
}

#[test]
fn names_are_kept_for_the_day_a_connection_is_needed() {
    let mut client = Client::new();
    assert!(client.say("CLIENT SETNAME me").contains("name: Some"));
    // Not before the server has agreed.
    assert_eq!(client.say("CLIENT GETNAME"), "$-1");
    client.session.name = Some((*b"me").into());
    assert_eq!(client.say("CLIENT GETNAME"), "$2\r\nme");
    assert!(client.say("CLIENT SETNAME \u{1}").starts_with("-ERR Client names"));
    assert_eq!(client.session.replay(), vec![vec![b"CLIENT".to_vec(), b"SETNAME".to_vec(), b"me".to_vec()]]);
    assert_eq!(client.say("CLIENT ID"), "Own");
    assert_eq!(client.say("SET a 1"), "Own");
    assert_eq!(client.say("GET a"), "Read");
    // Redis 7.0 does not have SETINFO; it says so itself.
    assert_eq!(client.say("CLIENT SETINFO LIB-NAME x"), "Own");
}

#[test]
fn blocking_and_waiting() {
    let mut client = Client::new();
    assert_eq!(client.say("BLPOP a 0"), "Own");
    assert_eq!(client.say("XREAD STREAMS s 0"), "Read");
    assert_eq!(client.say("XREAD BLOCK 0 STREAMS s $"), "Own");
    assert_eq!(client.say("WAIT 1 0"), "Wait");
    assert_eq!(client.say("WAIT 1 0"), "Own");
    assert_eq!(client.say("RESET"), "Reset");
}
