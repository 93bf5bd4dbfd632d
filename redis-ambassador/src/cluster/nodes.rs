//! The answer to `CLUSTER NODES`.

/// Longer answers are cut off, in lines.
const MAX_NODES: usize = 1024;

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Name that never changes.
    pub id: String,
    /// Its address; empty when the node does not know how it is reached.
    pub host: String,
    /// Its name, where it announces one.
    pub hostname: Option<String>,
    /// Port for clients.
    pub port: u16,
    /// It is the node that was asked.
    pub myself: bool,
    /// It is a primary, with or without slots.
    pub primary: bool,
    /// It cannot be talked to, or is thought to have failed by most.
    pub failed: bool,
    /// A replica's primary.
    pub follows: Option<String>,
    /// The configuration epoch: of two claims to a slot the higher counts.
    pub epoch: u64,
    /// First and last slot of each range it owns.
    pub slots: Vec<(u16, u16)>,
}

/// Reads the answer; lines that are none are skipped.
pub fn parse_nodes(text: &str) -> Vec<Node> {
    text.lines().take(MAX_NODES).filter_map(node).collect()
}

fn node(line: &str) -> Option<Node> {
    let mut words = line.split(' ');
    let id = words.next().filter(|id| !id.is_empty())?.to_owned();
    // ip:port@bus-port,hostname,…
    let mut address = words.next()?.split(',');
    let (at, hostname) = (address.next()?, address.next().unwrap_or_default());
    let (host, port) = at.split('@').next()?.rsplit_once(':')?;
    let flags: Vec<_> = words.next()?.split(',').collect();
    let has = |flag: &str| flags.contains(&flag);
    let follows = words.next().filter(|id| *id != "-").map(ToOwned::to_owned);
    let (_ping, _pong) = (words.next()?, words.next()?);
    let epoch = words.next()?.parse().ok()?;
    let _link = words.next()?;
    // What stands in brackets is on its way from or to another node, and still belongs to this one or to that.
    let slots = words.filter(|word| !word.starts_with('[')).filter_map(range).collect();
    Some(Node {
        id,
        host: host.to_owned(),
        // Further words there are `name=value`.
        hostname: Some(hostname)
            .filter(|name| !name.is_empty() && !name.contains('='))
            .map(ToOwned::to_owned),
        port: port.parse().ok()?,
        myself: has("myself"),
        primary: has("master"),
        failed: has("fail") || has("noaddr") || has("handshake"),
        follows,
        epoch,
        slots,
    })
}

fn range(word: &str) -> Option<(u16, u16)> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let range = (first.parse().ok()?, last.parse().ok()?);
    (range.0 <= range.1 && range.1 < super::SLOTS).then_some(range)
}
