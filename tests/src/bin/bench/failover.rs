//! What writers and readers notice when another server becomes primary: through the ambassador, and with clients that
//! ask the Sentinels themselves. Everything acknowledged is looked for afterwards.
//!
//! `make bench BENCH=failover`. With one round it takes about two minutes.

use anyhow::{Context, Result, bail};
use e2e::parts::{Redis, RespClient, Sentinel};
use e2e::process::Daemon;
use e2e::{eventually, within};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clients that write, and as many that read.
const CLIENTS: usize = 25;
/// Pause of a client between two commands.
const PAUSE: Duration = Duration::from_millis(5);
/// How long everything goes on after the promotion.
const AFTERWARDS: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Kill,
    KillAndRestart,
    Stop,
    Cut,
    SentinelFailover,
    Failover,
    /// Somebody makes a replica the primary and the primary its replica.
    Demote,
}

struct Row {
    name: &'static str,
    event: Event,
    /// Seconds after which the Sentinels think a server dead.
    down_after: u32,
}

const ROWS: &[Row] = &[
    Row { name: "kill -9", event: Event::Kill, down_after: 1 },
    Row { name: "kill -9", event: Event::Kill, down_after: 2 },
    Row { name: "kill -9", event: Event::Kill, down_after: 5 },
    Row { name: "kill -9, old one restarts", event: Event::KillAndRestart, down_after: 2 },
    Row { name: "SIGSTOP", event: Event::Stop, down_after: 2 },
    Row { name: "network of the primary cut", event: Event::Cut, down_after: 2 },
    Row { name: "SENTINEL FAILOVER", event: Event::SentinelFailover, down_after: 2 },
    Row { name: "FAILOVER, no Sentinel", event: Event::Failover, down_after: 0 },
    Row { name: "REPLICAOF, no Sentinel", event: Event::Demote, down_after: 0 },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Ambassador,
    /// A client that asks the Sentinels for the primary whenever something goes wrong.
    Direct,
}

/// Runs the benchmark and prints its table.
///
/// # Errors
/// A program is missing, or no server becomes primary.
pub(crate) fn run() -> Result<()> {
    println!(
        "{CLIENTS} writers and {CLIENTS} readers, a command every {PAUSE:?} each; one primary, two replicas, three Sentinels."
    );
    println!(
        "pause: longest time without any acknowledged write; first: from the promotion to the first of them; \
         doubtful: LOSTREPLY or a broken connection."
    );
    println!(
        "{:<26} {:>5} {:<10} | {:>8} {:>8} {:>8} {:>7} | {:>8} {:>6} {:>8}",
        "event", "down", "way", "pause s", "first ms", "doubtful", "errors", "acked", "lost", "reads -"
    );
    for row in ROWS {
        for way in [Way::Ambassador, Way::Direct] {
            // Without Sentinels nobody tells the client.
            if row.down_after == 0 && way == Way::Direct {
                continue;
            }
            for _ in 0..crate::rounds(1) {
                measure(row, way)?;
            }
        }
    }
    Ok(())
}

/// The servers, and who watches them.
struct Group {
    servers: Vec<Redis>,
    sentinels: Vec<Sentinel>,
    /// The network of the first primary, where it is to be cut: everybody reaches it there.
    network: Option<Relay>,
}

/// Copies bytes between whoever connects and a server, unless it is cut: then nothing gets through, and nobody is told.
#[derive(Debug, Clone)]
struct Relay {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Relay {
    fn to(server: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", e2e::free_port()?))?;
        let relay = Self { port: listener.local_addr()?.port(), cut: Arc::default() };
        let shared = relay.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(std::io::Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let (Ok(from), Ok(back)) = (client.try_clone(), server.try_clone()) else { continue };
                let (there, here) = (shared.clone(), shared.clone());
                std::thread::spawn(move || there.copy(client, server));
                std::thread::spawn(move || here.copy(back, from));
            }
        });
        Ok(relay)
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            while self.cut.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    }
}

impl Group {
    fn start(row: &Row) -> Result<Self> {
        let down_after = row.down_after;
        let port = e2e::free_port()?;
        let network = (row.event == Event::Cut).then(|| Relay::to(port)).transpose()?;
        let address = network.as_ref().map_or(port, |network| network.port);
        // What it is called when it comes back as a replica.
        let primary = Redis::start_on(port, &["--replica-announce-port", &address.to_string()])?;
        let replicas = [Redis::replica_of(address)?, Redis::replica_of(address)?];
        let count = if down_after == 0 { 0 } else { 3 };
        let milliseconds = u64::from(down_after) * 1000;
        let sentinels = (0..count).map(|_| Sentinel::start(address, milliseconds));
        let sentinels = sentinels.collect::<Result<Vec<_>>>()?;
        for sentinel in &sentinels {
            sentinel.knows(count - 1, replicas.len())?;
        }
        Ok(Self { servers: std::iter::once(primary).chain(replicas).collect(), sentinels, network })
    }

    /// Where the first primary is reached.
    fn first(&self) -> u16 {
        self.network.as_ref().map_or(self.servers[0].port, |network| network.port)
    }

    fn cut(&self, cut: bool) {
        if let Some(network) = &self.network {
            network.cut.store(cut, Ordering::SeqCst);
        }
    }

    fn ambassador(&self) -> Result<(u16, Daemon)> {
        let port = e2e::free_port()?;
        let mut command = Command::new(e2e::binary("redis-ambassador")?);
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", ""]);
        command.args(["--failover-wait", "20s"]);
        for sentinel in &self.sentinels {
            command.args(["--sentinel", &format!("127.0.0.1:{}", sentinel.port)]);
        }
        if self.sentinels.is_empty() {
            command.args(["--primary", &format!("127.0.0.1:{}", self.servers[0].port)]);
            for replica in &self.servers[1..] {
                command.args(["--replica", &format!("127.0.0.1:{}", replica.port)]);
            }
        }
        let mut daemon = Daemon::start(&mut command)?;
        daemon.wait_for_port(port)?;
        eventually("a write", || match RespClient::connect(port)?.command(&["SET", "first", "1"])? {
            answer if answer == "OK" => Ok(()),
            other => bail!("{other}"),
        })?;
        Ok((port, daemon))
    }

    fn strike(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Kill | Event::KillAndRestart => self.servers[0].daemon.kill(),
            Event::Stop => self.servers[0].daemon.signal("STOP")?,
            Event::SentinelFailover => {
                expect(self.sentinels[0].client()?.command(&["SENTINEL", "FAILOVER", "mymaster"])?)?;
            }
            Event::Cut => self.cut(true),
            Event::Failover => expect(self.servers[0].client()?.command(&["FAILOVER"])?)?,
            Event::Demote => {
                let heir = self.servers[1].port.to_string();
                let mut clients =
                    [self.servers[0].client()?, self.servers[1].client()?, self.servers[2].client()?];
                expect(clients[0].command(&["REPLICAOF", "127.0.0.1", &heir])?)?;
                expect(clients[1].command(&["REPLICAOF", "NO", "ONE"])?)?;
                expect(clients[2].command(&["REPLICAOF", "127.0.0.1", &heir])?)?;
            }
        }
        Ok(())
    }
}

fn expect(answer: String) -> Result<()> {
    if answer == "OK" { Ok(()) } else { bail!("{answer}") }
}

/// How a client finds a server.
#[derive(Debug, Clone)]
enum Route {
    To(u16),
    Ask(Vec<u16>),
}

impl Route {
    fn connect(&self) -> Result<RespClient> {
        match self {
            Self::To(port) => RespClient::connect_with(*port, Duration::from_secs(25)),
            Self::Ask(sentinels) => {
                let second = Duration::from_secs(1);
                let named = sentinels.iter().find_map(|sentinel| named_primary(*sentinel).ok());
                RespClient::connect_with(named.context("no Sentinel answers")?, second)
            }
        }
    }
}

fn named_primary(sentinel: u16) -> Result<u16> {
    let mut client = RespClient::connect_with(sentinel, Duration::from_secs(1))?;
    let answer = client.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"])?;
    let port = answer.trim_end_matches(']').rsplit(", ").next().and_then(|port| port.parse().ok());
    port.with_context(|| format!("no address: {answer}"))
}

/// What one client saw.
#[derive(Debug, Default)]
struct Seen {
    /// When each acknowledged write was answered, and its number.
    acknowledged: Vec<(Instant, u64)>,
    doubtful: usize,
    errors: usize,
}

fn client(
    route: &Route,
    stop: &AtomicBool,
    mut once: impl FnMut(&mut RespClient, u64) -> Result<String>,
) -> Seen {
    let (mut seen, mut connection) = (Seen::default(), None);
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        std::thread::sleep(PAUSE);
        if connection.is_none() {
            connection = route.connect().ok();
        }
        let Some(open) = &mut connection else {
            seen.errors += 1;
            continue;
        };
        match once(open, number) {
            Ok(answer) if answer.starts_with("-LOSTREPLY") => seen.doubtful += 1,
            Ok(answer) if answer.starts_with('-') => {
                seen.errors += 1;
                // READONLY: it is the wrong server. Through the ambassador there is nothing to choose.
                if matches!(route, Route::Ask(_)) {
                    connection = None;
                }
            }
            Ok(_) => seen.acknowledged.push((Instant::now(), number)),
            Err(_) => {
                seen.doubtful += 1;
                connection = None;
            }
        }
    }
    seen
}

fn spawn(route: &Route, stop: &Arc<AtomicBool>, reads: bool) -> Vec<JoinHandle<Seen>> {
    let one = |id: usize| {
        let (route, stop, key) = (route.clone(), Arc::clone(stop), format!("set{id}"));
        std::thread::spawn(move || match reads {
            true => client(&route, &stop, |open, _| open.command(&["GET", "untouched"])),
            false => client(&route, &stop, |open, number| open.command(&["SADD", &key, &number.to_string()])),
        })
    };
    (0..CLIENTS).map(one).collect()
}

fn join(clients: Vec<JoinHandle<Seen>>) -> Result<Vec<Seen>> {
    let joined = clients.into_iter().map(|client| client.join().ok().context("a client panicked"));
    joined.collect()
}

/// When one of these servers first said that it is primary. A Sentinel cuts all connections of whom it promotes.
fn promotion(ports: &[u16], patience: Duration) -> Result<(u16, Instant)> {
    let mut clients: Vec<Option<RespClient>> = ports.iter().map(|_| None).collect();
    let start = Instant::now();
    while start.elapsed() < patience {
        for (port, client) in ports.iter().zip(&mut clients) {
            if client.is_none() {
                *client = RespClient::connect(*port).ok();
            }
            match client.as_mut().map(|client| client.command(&["ROLE"])) {
                Some(Ok(role)) if role.starts_with("[master") => return Ok((*port, Instant::now())),
                Some(Ok(_)) => {}
                _ => *client = None,
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("no server became primary within {patience:?}")
}

fn measure(row: &Row, way: Way) -> Result<()> {
    let mut group = Group::start(row)?;
    let (route, _ambassador) = match way {
        Way::Ambassador => {
            let (port, daemon) = group.ambassador()?;
            (Route::To(port), Some(daemon))
        }
        Way::Direct => (Route::Ask(group.sentinels.iter().map(|sentinel| sentinel.port).collect()), None),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (writers, readers) = (spawn(&route, &stop, false), spawn(&route, &stop, true));
    std::thread::sleep(Duration::from_secs(1));
    let (old, others) = (group.servers[0].port, [group.servers[1].port, group.servers[2].port]);
    let struck = Instant::now();
    group.strike(row.event)?;
    let (promoted, at) = promotion(&others, Duration::from_secs(30))?;
    if row.event == Event::KillAndRestart {
        group.servers.push(Redis::start_on(old, &[])?);
    }
    std::thread::sleep(AFTERWARDS);
    if row.event == Event::Stop {
        group.servers[0].daemon.signal("CONT")?;
        std::thread::sleep(AFTERWARDS);
    }
    if row.event == Event::Cut {
        group.cut(false);
        std::thread::sleep(AFTERWARDS);
    }
    stop.store(true, Ordering::SeqCst);
    let (written, read) = (join(writers)?, join(readers)?);
    let last = settled(&group, promoted)?;
    let lost = missing(last, &written)?;
    print(row, way, &written, &read, at, lost.len());
    if !lost.is_empty() {
        explain(&group, &lost, struck, at, (promoted, last));
    }
    Ok(())
}

/// The primary that all agree about in the end.
fn settled(group: &Group, promoted: u16) -> Result<u16> {
    if group.sentinels.is_empty() {
        return Ok(promoted);
    }
    within(Duration::from_secs(20), "the Sentinels to agree", || {
        let named = group.sentinels.iter().map(|sentinel| named_primary(sentinel.port));
        let named = named.collect::<Result<HashSet<u16>>>()?;
        match named.iter().next() {
            Some(port) if named.len() == 1 && *port != group.first() => Ok(*port),
            _ => bail!("{named:?}"),
        }
    })
}

/// When the acknowledged writes that a server doesn't have were acknowledged.
fn missing(server: u16, written: &[Seen]) -> Result<Vec<Instant>> {
    let mut client = RespClient::connect(server)?;
    let mut missing = Vec::new();
    for (id, seen) in written.iter().enumerate() {
        let answer = client.command(&["SMEMBERS", &format!("set{id}")])?;
        let words = answer.trim_matches(['[', ']']).split(", ");
        let there: HashSet<u64> = words.filter_map(|word| word.parse().ok()).collect();
        missing.extend(
            seen.acknowledged.iter().filter(|(_, number)| !there.contains(number)).map(|(at, _)| *at),
        );
    }
    Ok(missing)
}

fn print(row: &Row, way: Way, written: &[Seen], read: &[Seen], promoted: Instant, lost: usize) {
    let mut times: Vec<Instant> =
        written.iter().flat_map(|seen| &seen.acknowledged).map(|(at, _)| *at).collect();
    times.sort_unstable();
    let pause = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    let first = times
        .iter()
        .find(|at| **at >= promoted)
        .map_or_else(|| "none".to_owned(), |at| format!("{:.0}", (*at - promoted).as_secs_f64() * 1e3));
    let sum = |count: fn(&Seen) -> usize| written.iter().map(count).sum::<usize>();
    println!(
        "{:<26} {:>4}s {:<10} | {:>8.2} {:>8} {:>8} {:>7} | {:>8} {:>6} {:>8}",
        row.name,
        row.down_after,
        if way == Way::Ambassador { "ambassador" } else { "direct" },
        pause.as_secs_f64(),
        first,
        sum(|seen| seen.doubtful),
        sum(|seen| seen.errors),
        times.len(),
        lost,
        read.iter().map(|seen| seen.doubtful + seen.errors).sum::<usize>(),
    );
}

/// Says who had acknowledged what was lost, and what the Sentinels did.
fn explain(group: &Group, lost: &[Instant], struck: Instant, promoted: Instant, (first, last): (u16, u16)) {
    let count = |which: &dyn Fn(&Instant) -> bool| lost.iter().filter(|at| which(at)).count();
    println!(
        "    of the lost ones {} were acknowledged before the event, {} between it and the promotion, {} after it; \
         promoted was {first}, in the end {last} is primary",
        count(&|at| *at < struck),
        count(&|at| *at >= struck && *at < promoted),
        count(&|at| *at >= promoted),
    );
    let telling =
        ["+elected-leader", "+promoted-slave", "+switch-master", "-failover", "+config-update", "+convert"];
    for (number, sentinel) in group.sentinels.iter().enumerate() {
        for line in
            sentinel.daemon.log().lines().filter(|line| telling.iter().any(|word| line.contains(word)))
        {
            println!("    Sentinel {number}: {line}");
        }
    }
}
