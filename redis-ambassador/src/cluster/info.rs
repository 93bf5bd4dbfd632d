//! `INFO` of several servers as that of one: counters are added, everything else is the first server's.

/// Counters about what clients do and what keys there are.
const ADDED: [&str; 21] = [
    "connected_clients",
    "blocked_clients",
    "tracking_clients",
    "clients_in_timeout_table",
    "total_connections_received",
    "total_commands_processed",
    "instantaneous_ops_per_sec",
    "total_net_input_bytes",
    "total_net_output_bytes",
    "total_reads_processed",
    "total_writes_processed",
    "rejected_connections",
    "expired_keys",
    "evicted_keys",
    "evicted_clients",
    "keyspace_hits",
    "keyspace_misses",
    "tracking_total_keys",
    "tracking_total_items",
    "unexpected_error_replies",
    "total_error_replies",
];
/// Sections whose lines are counters of something that not every server has.
const LISTS: [&str; 3] = ["# Keyspace", "# Commandstats", "# Errorstats"];

/// One answer made of the answers of several servers; `None` when one of them is no text.
pub(super) fn join(answers: &[Vec<u8>]) -> Option<Vec<u8>> {
    let texts = answers.iter().map(|answer| text(answer)).collect::<Option<Vec<_>>>()?;
    let (first, others) = texts.split_first()?;
    let mut sections = sections(first);
    for other in others {
        for more in self::sections(other) {
            if let Some(known) = sections.iter_mut().find(|known| known[0] == more[0]) {
                add_section(known, &more);
            }
        }
    }
    let joined = sections.iter().map(|lines| lines.join("\r\n") + "\r\n").collect::<Vec<_>>().join("\r\n");
    Some(in_kind(&answers[0], &joined))
}

/// A text as an answer of the kind that another one is of.
pub(super) fn in_kind(other: &[u8], text: &str) -> Vec<u8> {
    let (kind, prefix) = if other.starts_with(b"=") { ('=', "txt:") } else { ('$', "") };
    format!("{kind}{}\r\n{prefix}{text}\r\n", text.len() + prefix.len()).into_bytes()
}

/// The words of a bulk or verbatim string.
pub(super) fn text(answer: &[u8]) -> Option<&str> {
    let answer = std::str::from_utf8(answer).ok()?;
    let (_, body) = answer.strip_prefix(['$', '='])?.split_once("\r\n")?;
    let body = body.strip_suffix("\r\n")?;
    Some(if answer.starts_with('=') { body.strip_prefix("txt:")? } else { body })
}

/// The lines of each section, its title first.
fn sections(text: &str) -> Vec<Vec<String>> {
    let text = text.strip_suffix("\r\n").unwrap_or(text);
    text.split("\r\n\r\n").map(|section| section.split("\r\n").map(str::to_owned).collect()).collect()
}

fn add_section(known: &mut Vec<String>, more: &[String]) {
    let list = LISTS.contains(&known[0].as_str());
    for line in &more[1..] {
        let Some((name, value)) = line.split_once(':') else { continue };
        if !list && !ADDED.contains(&name) {
            continue;
        }
        let same = known.iter_mut().find_map(|line| {
            let sum = add(line.strip_prefix(name)?.strip_prefix(':')?, value);
            Some((line, sum))
        });
        match same {
            Some((line, Some(sum))) => *line = format!("{name}:{sum}"),
            Some((_, None)) => {}
            None if list => known.push(line.clone()),
            None => {}
        }
    }
}

/// The sum of `7` and `8`, or of `calls=7,…` and `calls=8,…`.
fn add(one: &str, other: &str) -> Option<String> {
    let whole = |text: &str| text.parse::<i64>().ok();
    if let (Some(one), Some(other)) = (whole(one), whole(other)) {
        return Some(one.saturating_add(other).to_string());
    }
    let (mut calls, mut time) = (0, 0);
    let pairs = one.split(',').zip(other.split(',')).map(|(one, other)| {
        let ((name, one), (same, other)) = (one.split_once('=')?, other.split_once('=')?);
        if name != same {
            return None;
        }
        let sum = match (name, whole(one), whole(other)) {
            ("usec_per_call", ..) => return Some(format!("{name}={:.2}", time as f64 / calls.max(1) as f64)),
            ("avg_ttl", one, other) => one.max(other)?,
            (_, one, other) => one?.saturating_add(other?),
        };
        match name {
            "calls" => calls = sum,
            "usec" => time = sum,
            _ => {}
        }
        Some(format!("{name}={sum}"))
    });
    Some(pairs.collect::<Option<Vec<_>>>()?.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bulk(text: &str) -> Vec<u8> {
        format!("${}\r\n{text}\r\n", text.len()).into_bytes()
    }

    #[test]
    fn counters_are_added_and_the_rest_is_the_first_servers() {
        let one = "# Server\r\ntcp_port:1\r\n\r\n# Clients\r\nblocked_clients:1\r\nmaxclients:9\r\n\r\n# Commandstats\r\n\
                   cmdstat_get:calls=1,usec=4,usec_per_call=4.00,failed_calls=0\r\n\r\n# Keyspace\r\n";
        let other = "# Server\r\ntcp_port:2\r\n\r\n# Clients\r\nblocked_clients:2\r\nmaxclients:9\r\n\r\n# Commandstats\r\n\
                     cmdstat_get:calls=3,usec=6,usec_per_call=2.00,failed_calls=1\r\n\
                     cmdstat_set:calls=1,usec=1,usec_per_call=1.00,failed_calls=0\r\n\r\n\
                     # Keyspace\r\ndb0:keys=2,expires=1,avg_ttl=5\r\n";
        let joined = "# Server\r\ntcp_port:1\r\n\r\n# Clients\r\nblocked_clients:3\r\nmaxclients:9\r\n\r\n# Commandstats\r\n\
                      cmdstat_get:calls=4,usec=10,usec_per_call=2.50,failed_calls=1\r\n\
                      cmdstat_set:calls=1,usec=1,usec_per_call=1.00,failed_calls=0\r\n\r\n\
                      # Keyspace\r\ndb0:keys=2,expires=1,avg_ttl=5\r\n";
        assert_eq!(join(&[bulk(one), bulk(other)]), Some(bulk(joined)));
        let verbatim = |text: &str| format!("={}\r\ntxt:{text}\r\n", text.len() + 4).into_bytes();
        assert_eq!(join(&[verbatim(one), verbatim(other)]), Some(verbatim(joined)));
        assert_eq!(join(&[bulk(one), b":1\r\n".to_vec()]), None);
    }

    proptest! {
        #[test]
        fn one_servers_stays_as_it_is(sections in proptest::collection::vec(("[A-Z][a-z]+", "[a-z]+:[0-9=,a-z]*"), 1..5)) {
            let text = sections.iter().map(|(title, line)| format!("# {title}\r\n{line}\r\n")).collect::<Vec<_>>();
            let answer = bulk(&text.join("\r\n"));
            prop_assert_eq!(join(std::slice::from_ref(&answer)), Some(answer));
        }

        #[test]
        fn nonsense_is_survived(one in ".*", other in ".*") {
            let _ = join(&[bulk(&one), bulk(&other)]);
            let _ = join(&[one.into_bytes(), other.into_bytes()]);
        }
    }
}
