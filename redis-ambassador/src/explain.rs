//! `redis-ambassador explain GET foo`: where a command would go, and why.

use crate::command::{Effect, Kind, Request, Table, visit_keys};
use crate::config::{Config, Consistency};
use crate::resp::{RequestFramer, RequestLimits, write_multibulk};
use crate::route::Policy;
use crate::session::{Plan, Session};
use std::fmt::Write;

/// Explains one command, given as its words, with the built-in command table.
///
/// ```
/// use redis_ambassador::{Config, explain};
///
/// let config = Config::new("10.0.0.1:6379".parse()?, vec!["10.0.0.2:6379".parse()?]);
/// let text = explain(&config, &["SET".into(), "colour".into(), "blue".into()]);
/// assert!(text.contains("goes to   the primary"));
/// # Ok::<(), redis_ambassador::InvalidAddr>(())
/// ```
pub fn explain(config: &Config, words: &[String]) -> String {
    let mut frame = Vec::new();
    write_multibulk(&mut frame, words.iter().map(String::as_bytes));
    let mut framer = RequestFramer::new(RequestLimits::default());
    if words.is_empty() || framer.advance(&frame).is_err() {
        return "no command\n".to_owned();
    }
    let request = Request::new(&frame, framer.args());
    let mut table = Table::builtin();
    table.deny(&config.deny);
    let classified = table.classify(&request);
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<9} {value}");
    };
    match classified.command {
        Some(command) => line("command", &command.name),
        None => line("command", "not known; counts as a write to any key"),
    }
    if let Some(command) = classified.command {
        let mut keys = Vec::new();
        let complete =
            visit_keys(command, &request, |key| keys.push(String::from_utf8_lossy(key).into_owned()));
        line("keys", &format!("{}{}", keys.join(" "), if complete { "" } else { " (perhaps others)" }));
        if command.denied {
            line("goes to", "nobody: it is denied");
            return text;
        }
    }
    let plan = Session::new().plan(&table, &request, &classified, false);
    let (target, why) = target(config, &plan, classified.kind);
    line("goes to", target);
    line("because", why);
    if matches!(plan, Plan::Shared(Effect::Read)) {
        line("policy", config.reads.policy.name());
    }
    text
}

fn target(config: &Config, plan: &Plan<'_>, kind: Kind) -> (&'static str, &'static str) {
    match plan {
        Plan::Shared(Effect::Read) if config.reads.policy == Policy::Primary => {
            ("the primary", "the policy for reads is `primary-only`")
        }
        Plan::Shared(Effect::Read) if config.reads.policy == Policy::Replica => (
            "a replica that has what the consistency asks for; it waits for one",
            "it only reads the keys it names, and the policy for reads is `replica-only`",
        ),
        Plan::Shared(Effect::Read) => match config.consistency {
            Consistency::Primary => ("the primary", "consistency is `primary`"),
            Consistency::Eventual => ("a replica", "it only reads the keys it names"),
            Consistency::Session => (
                "a replica that has this client's writes, else the primary",
                "it only reads the keys it names",
            ),
            Consistency::Pod => (
                "a replica that has every write to these keys made here, else the primary",
                "it only reads the keys it names",
            ),
        },
        Plan::Shared(Effect::PrimaryRead) => {
            ("the primary", "it changes no key, but its answer differs from server to server")
        }
        Plan::Shared(Effect::Write) => ("the primary", "it may change data"),
        Plan::Own if kind == Kind::Multi || kind == Kind::Watch => (
            "the primary, on a connection of the client's own",
            "a transaction stays on one connection until it ends",
        ),
        Plan::Own => (
            "the primary, on a connection of the client's own",
            "it may wait for others, or is about the connection itself",
        ),
        Plan::Raw => {
            ("the primary, on a connection of the client's own", "from here on the connection is a stream")
        }
        Plan::Switch(..) if kind == Kind::Client => {
            ("the primary", "clients of one name share connections that bear it")
        }
        Plan::Switch(..) => ("the primary", "the client changes its database, user or protocol"),
        Plan::Wait => {
            ("the primary, on the connection that carried the client's writes", "it is about those writes")
        }
        Plan::Answer(_) => {
            ("nobody: the ambassador answers", "it is about the client's connection to the ambassador")
        }
        Plan::Nothing | Plan::Reset | Plan::Quit => {
            ("nobody: the ambassador answers", "it ends the client's state")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(line: &str) -> String {
        let config =
            Config { deny: vec!["FLUSHALL".to_owned()], ..Config::new("a:1".parse().unwrap(), Vec::new()) };
        explain(&config, &line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn it_says_where_and_why() {
        assert!(about("GET foo").contains("a replica that has every write"));
        assert!(about("GET foo").contains("keys      foo\n"));
        assert!(
            about("GET foo").contains("policy    least-outstanding\n")
                && !about("SET a b").contains("policy")
        );
        assert!(
            about("SORT l STORE d").contains("the primary")
                && about("SORT l STORE d").contains("perhaps others")
        );
        assert!(about("FLUSHALL").contains("denied") && about("BLPOP a 0").contains("own"));
        assert!(about("NOSUCH a").contains("not known") && about("").contains("not known"));
    }
}
