//! Settings and their validated form.

use crate::address::ServerAddr;
use crate::discovery::Discover;
use crate::route::{Policy, ReadRules, Rule};
use crate::tls::{ClientTls, UpstreamTls};
use common::config::{App, ConfigError, FromSetting, ListenAddr, Setting, Settings};
use std::path::PathBuf;
use std::time::Duration;

/// How fresh a read has to be.
///
/// ```
/// # let mut config = redis_ambassador::Config::new("10.0.0.1:6379".parse()?, vec![]);
///
/// config.consistency = redis_ambassador::Consistency::Session;
/// # Ok::<(), redis_ambassador::InvalidAddr>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Any replica may answer.
    Eventual,
    /// A client reads what it has itself written.
    Session,
    /// Every client reads what any client of this ambassador has written.
    #[default]
    Pod,
    /// Everything goes to the primary.
    Primary,
}

impl Consistency {
    /// Whether writes have to be remembered.
    ///
    /// ```
    /// use redis_ambassador::Consistency;
    ///
    /// assert!(Consistency::Pod.uses_fence() && !Consistency::Eventual.uses_fence());
    /// ```
    pub fn uses_fence(self) -> bool {
        matches!(self, Self::Session | Self::Pod)
    }
}

impl FromSetting for Consistency {
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "eventual" => Ok(Self::Eventual),
            "session" => Ok(Self::Session),
            "pod" => Ok(Self::Pod),
            "primary" => Ok(Self::Primary),
            _ => Err(format!("`{text}` is no consistency (eventual, session, pod, primary)")),
        }
    }
}

impl FromSetting for Policy {
    fn from_setting(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, policy)| *policy).ok_or_else(|| {
            let names = Self::NAMES.map(|(name, _)| name).join(", ");
            format!("`{text}` is no policy for reads ({names})")
        })
    }
}

/// How far behind its primary a replica may be and still get reads. Zero is no limit.
///
/// ```
/// # let mut config = redis_ambassador::Config::new("10.0.0.1:6379".parse()?, vec![]);
/// use redis_ambassador::MaxLag;
/// use std::time::Duration;
///
/// config.max_lag = MaxLag { time: Duration::from_secs(2), bytes: 16 << 20 };
/// # Ok::<(), redis_ambassador::InvalidAddr>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxLag {
    /// For how long it may lack something.
    pub time: Duration,
    /// How many bytes it may lack.
    pub bytes: u64,
}

impl FromSetting for MaxLag {
    fn from_setting(text: &str) -> Result<Self, String> {
        let mut limit = Self { time: Duration::ZERO, bytes: 0 };
        for part in text.split(',').map(str::trim) {
            if let Ok(time) = Duration::from_setting(part) {
                limit.time = time;
            } else {
                let size = common::config::ByteSize::from_setting(part);
                limit.bytes = size
                    .map_err(|_| format!("`{part}` is no duration and no size (10s, 16MiB, or 10s,16MiB)"))?
                    .0;
            }
        }
        Ok(limit)
    }
}

/// Where clients connect.
///
/// ```
/// # let mut config = redis_ambassador::Config::new("10.0.0.1:6379".parse()?, vec![]);
/// use redis_ambassador::{Listen, ListenAddr};
///
/// config.listen = vec![Listen::Tcp(ListenAddr::loopback(6379)), Listen::Unix("/run/redis.sock".into())];
/// # Ok::<(), redis_ambassador::InvalidAddr>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP port.
    Tcp(ListenAddr),
    /// A TCP port where TLS is spoken.
    Tls(ListenAddr),
    /// A unix stream socket.
    Unix(PathBuf),
}

impl FromSetting for Listen {
    fn from_setting(text: &str) -> Result<Self, String> {
        if let Some(address) = text.strip_prefix("tls:") {
            return ListenAddr::from_setting(address).map(Self::Tls);
        }
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(format!("`{text}`: a unix socket needs an absolute path")),
            None => ListenAddr::from_setting(text).map(Self::Tcp),
        }
    }
}

/// The settings of the binary, in the form every layer shares.
///
/// ```
/// use redis_ambassador::{APP, Layers};
///
/// assert_eq!(Layers::new(&APP).finish().text("consistency"), Some("pod"));
/// ```
pub const APP: App = App {
    settings: SETTINGS,
    after_help: "Every flag is also read from its REDIS_AMBASSADOR_ variable; a flag wins over a variable.\n\n\
                 Examples:\n  \
                 redis-ambassador --primary 10.0.0.1:6379 --replica 10.0.0.2:6379 --replica 10.0.0.3:6379\n  \
                 redis-ambassador --sentinel 10.0.0.1:26379 --sentinel 10.0.0.2:26379 --sentinel-name mymaster\n  \
                 redis-ambassador --cluster 10.0.0.1:6379 --admin-listen 0.0.0.0:9121",
    ..App::new(
        "redis-ambassador",
        "REDIS_AMBASSADOR",
        "Makes a Redis primary and its replicas look like one plain Redis on localhost",
    )
};

const SETTINGS: &[Setting] = &[
    Setting::list(
        "listen",
        "ADDR",
        "Where clients connect: host:port, tls:host:port or unix:/path; repeatable",
    )
    .default("127.0.0.1:6379")
    .group("Clients"),
    Setting::text("tls-cert", "FILE", "Certificate chain (PEM) shown to clients of tls: addresses")
        .group("Clients"),
    Setting::text("tls-key", "FILE", "Private key (PEM) of that certificate").group("Clients"),
    Setting::text("tls-client-ca", "FILE", "Clients must show a certificate signed by one of these (PEM)")
        .group("Clients"),
    Setting::text(
        "client-users-file",
        "FILE",
        "Clients authenticate here: user, password, server user, its password",
    )
    .group("Clients"),
    Setting::text("primary", "ADDR", "The server that takes writes: host:port or unix:/path")
        .group("Servers"),
    Setting::list("replica", "ADDR", "A server that may answer reads; repeatable").group("Servers"),
    Setting::list("seed", "ADDR", "A server of unknown role; those it names are asked as well; repeatable")
        .group("Servers"),
    Setting::list("cluster", "ADDR", "A node of a Redis Cluster; the others are found; repeatable")
        .group("Servers"),
    Setting::list("discover", "SOURCE", "Servers of unknown role: dns:name:port or file:/path; repeatable")
        .group("Servers"),
    Setting::text("discover-interval", "DURATION", "Pause between two look-ups of names")
        .default("5s")
        .group("Servers"),
    Setting::list("sentinel", "ADDR", "A Sentinel that knows the primary and its replicas; repeatable")
        .group("Servers"),
    Setting::text("sentinel-name", "NAME", "What the Sentinels call the primary")
        .default("mymaster")
        .group("Servers"),
    Setting::text("sentinel-user", "NAME", "User at the Sentinels").group("Servers"),
    Setting::text("sentinel-password-file", "FILE", "File with that user's password").group("Servers"),
    Setting::switch("sentinel-tls", "Speak TLS to the Sentinels, with the settings of the servers")
        .group("Servers"),
    Setting::switch("upstream-tls", "Speak TLS to servers").group("Servers"),
    Setting::text("upstream-tls-ca", "FILE", "Authorities (PEM) to trust instead of the system's")
        .group("Servers"),
    Setting::text("upstream-tls-cert", "FILE", "Certificate chain (PEM) shown to servers").group("Servers"),
    Setting::text("upstream-tls-key", "FILE", "Private key (PEM) of that certificate").group("Servers"),
    Setting::text(
        "upstream-tls-name",
        "NAME",
        "What servers' certificates must name, instead of their address",
    )
    .group("Servers"),
    Setting::text(
        "upstream-tls-verify",
        "MODE",
        "What of a certificate is checked: full, ca (not the name), none",
    )
    .default("full")
    .group("Servers"),
    Setting::text("upstream-user", "NAME", "User for clients that have not authenticated themselves")
        .group("Servers"),
    Setting::text("upstream-password-file", "FILE", "File with that user's password").group("Servers"),
    Setting::text("consistency", "MODE", "What a read must have seen: eventual, session, pod, primary")
        .default("pod")
        .group("Reads"),
    Setting::text(
        "read-policy",
        "POLICY",
        "Which replicas read: least-outstanding, round-robin, random, nearest, zone-first, primary-only, replica-only",
    )
    .default("least-outstanding")
    .group("Reads"),
    Setting::list("weight", "ADDR=N", "Share of the reads of a server, 0 to 100; * fits anything; repeatable")
        .group("Reads"),
    Setting::text("zone", "NAME", "The zone this ambassador is in").group("Reads"),
    Setting::list("server-zone", "ADDR=NAME", "The zone a server is in; * fits anything; repeatable")
        .group("Reads"),
    Setting::text("max-lag", "LIMIT", "A replica further behind gets no reads: 10s, 16MiB or 10s,16MiB; 0 is no limit")
        .default("10s")
        .group("Reads"),
    Setting::text("max-latency", "DURATION", "A replica that takes longer to answer gets no reads for a while; 0 is no limit")
        .default("250ms")
        .group("Reads"),
    Setting::text("failover-wait", "DURATION", "How long a command waits for a server that can take it")
        .default("10s")
        .group("Servers"),
    Setting::text("probe-interval", "DURATION", "Pause between two looks at each server's role")
        .default("500ms")
        .group("Servers"),
    Setting::text("probe-timeout", "DURATION", "A server that takes longer to tell its role is unreachable")
        .default("1s")
        .group("Servers"),
    Setting::text("connect-timeout", "DURATION", "Time to connect and shake hands with a server")
        .default("1s")
        .group("Servers"),
    Setting::text("max-clients", "N", "Client connections at one time; further ones are refused")
        .default("10000")
        .group("Limits"),
    Setting::text("max-pipeline", "N", "Unanswered requests per client before it is no longer read")
        .default("1024")
        .group("Limits"),
    Setting::text("max-pipeline-bytes", "SIZE", "Bytes of them from which on it is no longer read")
        .default("4MiB")
        .group("Limits"),
    Setting::text("max-buffered", "SIZE", "Requests and answers kept for all clients, per thread")
        .default("1GiB")
        .group("Limits"),
    Setting::text("max-arguments", "N", "Arguments of one request").default("1048576").group("Limits"),
    Setting::text("max-bulk", "SIZE", "Longest argument of a request").default("512MiB").group("Limits"),
    Setting::text("max-request", "SIZE", "One request, all its arguments together").default("1GiB").group("Limits"),
    Setting::text(
        "client-output-limit",
        "SIZE",
        "Unread answers held for a client while others wait behind them",
    )
    .default("64MiB")
    .group("Limits"),
    Setting::text(
        "client-write-timeout",
        "DURATION",
        "A client that takes nothing of its answers for so long is closed",
    )
    .default("60s")
    .group("Limits"),
    Setting::text(
        "client-idle-timeout",
        "DURATION",
        "A client that is silent for so long is closed; 0 is never",
    )
    .default("0")
    .group("Limits"),
    Setting::text("max-queued", "SIZE", "Requests that wait for a server, in all and per thread")
        .default("256MiB")
        .group("Limits"),
    Setting::list("deny", "COMMAND", "A command to refuse, for example FLUSHALL or CONFIG|SET; repeatable")
        .group("Limits"),
    Setting::text("slow-log", "DURATION", "Commands that take longer are listed at /slowlog; 0 is none")
        .default("100ms")
        .group("Process"),
    Setting::text("threads", "N", "Threads that move data").default("1").group("Process"),
    Setting::text("admin-listen", "ADDR", "Metrics, health and status page; empty switches them off")
        .default("127.0.0.1:9121")
        .group("Process"),
    Setting::text("drain", "DURATION", "Time to finish what is in flight after SIGTERM")
        .default("5s")
        .group("Process"),
];

/// A validated configuration.
///
/// ```
/// use redis_ambassador::{Config, Consistency};
/// use std::time::Duration;
///
/// let mut config = Config::new("10.0.0.1:6379".parse()?, vec!["10.0.0.2:6379".parse()?]);
/// config.consistency = Consistency::Session;
/// config.drain = Duration::from_secs(30);
/// assert!(config.admin_listen.is_none(), "no admin port unless one is asked for");
/// # Ok::<(), redis_ambassador::InvalidAddr>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where clients connect.
    pub listen: Vec<Listen>,
    /// The server that takes writes, unless seeds or Sentinels tell.
    pub primary: Option<ServerAddr>,
    /// Servers that may answer reads.
    pub replicas: Vec<ServerAddr>,
    /// Servers of unknown role, explored.
    pub seeds: Vec<ServerAddr>,
    /// Nodes of a Redis Cluster.
    pub cluster: Vec<ServerAddr>,
    /// Where further servers are named.
    pub discover: Vec<Discover>,
    /// Pause between two look-ups of names.
    pub discover_interval: Duration,
    /// TLS towards servers.
    pub upstream_tls: Option<UpstreamTls>,
    /// TLS towards Sentinels.
    pub sentinel_tls: Option<UpstreamTls>,
    /// TLS towards clients of [`Listen::Tls`].
    pub client_tls: Option<ClientTls>,
    /// Clients authenticate here: a line for each user with its password, and who that is at the servers.
    pub client_users_file: Option<PathBuf>,
    /// Most bytes of requests that wait for a server, per thread.
    pub max_queued: usize,
    /// Sentinels.
    pub sentinels: Vec<ServerAddr>,
    /// What the Sentinels call the primary.
    pub sentinel_name: String,
    /// User at the Sentinels.
    pub sentinel_user: Option<String>,
    /// File with that user's password.
    pub sentinel_password_file: Option<PathBuf>,
    /// User for clients that have not authenticated themselves.
    pub upstream_user: Option<String>,
    /// File with that user's password.
    pub upstream_password_file: Option<PathBuf>,
    /// What a read must have seen.
    pub consistency: Consistency,
    /// How reads are spread over the replicas.
    pub reads: ReadRules,
    /// A replica further behind gets no reads.
    pub max_lag: MaxLag,
    /// A replica that takes longer to answer gets no reads for a while; zero is no limit.
    pub max_latency: Duration,
    /// How long a command waits for a server that can take it.
    pub failover_wait: Duration,
    /// Pause between two looks at each server's role.
    pub probe_interval: Duration,
    /// A server that takes longer to tell its role is unreachable.
    pub probe_timeout: Duration,
    /// Time to connect and shake hands with a server.
    pub connect_timeout: Duration,
    /// Client connections at one time.
    pub max_clients: usize,
    /// Unanswered requests per client before it is no longer read.
    pub max_pipeline: usize,
    /// Bytes of a client's unanswered requests from which on it is no longer read.
    pub max_pipeline_bytes: usize,
    /// Most bytes of requests and answers that are kept for all clients together, per thread; beyond it the client
    /// that most is kept for is closed.
    pub max_buffered: usize,
    /// Arguments of one request.
    pub max_arguments: usize,
    /// Longest argument of a request, in bytes.
    pub max_bulk: u64,
    /// Longest request, all its arguments together, in bytes.
    pub max_request: u64,
    /// Unread answers held for a client while others wait behind them, in bytes.
    pub client_output_limit: usize,
    /// A client that takes nothing of its answers for so long is closed.
    pub client_write_timeout: Duration,
    /// A client that is silent for so long is closed; zero is never.
    pub client_idle_timeout: Duration,
    /// Commands to refuse.
    pub deny: Vec<String>,
    /// Commands that take longer are listed; zero is none.
    pub slow_log: Duration,
    /// Threads that move data.
    pub threads: usize,
    /// Metrics, health and status page.
    pub admin_listen: Option<ListenAddr>,
    /// Time to finish what is in flight after a stop was asked for.
    pub drain: Duration,
}

impl Config {
    /// The defaults, for a primary and its replicas.
    ///
    /// ```
    /// use redis_ambassador::Config;
    ///
    /// let config = Config::new("10.0.0.1:6379".parse()?, vec![]);
    /// assert_eq!(config.max_clients, 10_000);
    /// # Ok::<(), redis_ambassador::InvalidAddr>(())
    /// ```
    pub fn new(primary: ServerAddr, replicas: Vec<ServerAddr>) -> Self {
        Self {
            listen: vec![Listen::Tcp(ListenAddr { host: "127.0.0.1".to_owned(), port: 6379 })],
            primary: Some(primary),
            replicas,
            seeds: Vec::new(),
            cluster: Vec::new(),
            discover: Vec::new(),
            discover_interval: Duration::from_secs(5),
            upstream_tls: None,
            sentinel_tls: None,
            client_tls: None,
            client_users_file: None,
            max_queued: 256 << 20,
            sentinels: Vec::new(),
            sentinel_name: "mymaster".to_owned(),
            sentinel_user: None,
            sentinel_password_file: None,
            upstream_user: None,
            upstream_password_file: None,
            consistency: Consistency::default(),
            reads: ReadRules::default(),
            max_lag: MaxLag { time: Duration::from_secs(10), bytes: 0 },
            max_latency: Duration::from_millis(250),
            failover_wait: Duration::from_secs(10),
            probe_interval: Duration::from_millis(500),
            probe_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            max_clients: 10_000,
            max_pipeline: 1024,
            max_pipeline_bytes: 4 << 20,
            max_buffered: 1 << 30,
            max_arguments: 1024 * 1024,
            max_bulk: 512 << 20,
            max_request: 1 << 30,
            client_output_limit: 64 << 20,
            client_write_timeout: Duration::from_secs(60),
            client_idle_timeout: Duration::ZERO,
            deny: Vec::new(),
            slow_log: Duration::from_millis(100),
            threads: 1,
            admin_listen: None,
            drain: Duration::from_secs(5),
        }
    }

    /// Validates the winning settings.
    ///
    /// # Errors
    /// A value that is missing, does not parse or is out of range; the error names where it was read.
    ///
    /// ```
    /// use redis_ambassador::{APP, Config, Layers};
    ///
    /// let mut layers = Layers::new(&APP);
    /// layers.environment([("REDIS_AMBASSADOR_SENTINEL", "10.0.0.1:26379,10.0.0.2:26379")]);
    /// layers.flag("sentinel-name", vec!["shop".into()])?;
    /// let config = Config::from_settings(&layers.finish())?;
    /// assert_eq!((config.sentinels.len(), config.sentinel_name.as_str()), (2, "shop"));
    /// # Ok::<(), redis_ambassador::ConfigError>(())
    /// ```
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let positive = |name: &'static str| -> Result<usize, ConfigError> {
            match settings.value::<usize>(name)? {
                0 => Err(settings.invalid(name, "must be at least 1")),
                value => Ok(value),
            }
        };
        let some_size = |name: &'static str| -> Result<usize, ConfigError> {
            let value = settings.value::<common::config::ByteSize>(name)?.0;
            match usize::try_from(value).unwrap_or(usize::MAX) {
                0 => Err(settings.invalid(name, "must be at least 1")),
                value => Ok(value),
            }
        };
        let some_time = |name: &'static str| -> Result<Duration, ConfigError> {
            match settings.value::<Duration>(name)? {
                value if value < Duration::from_millis(1) => {
                    Err(settings.invalid(name, "must be at least 1ms"))
                }
                value => Ok(value),
            }
        };
        let size = |name: &'static str| settings.value::<common::config::ByteSize>(name).map(|size| size.0);
        let tls = UpstreamTls::from_settings(settings)?;
        let config = Self {
            cluster: settings.list("cluster")?,
            discover: settings.list("discover")?,
            discover_interval: some_time("discover-interval")?,
            upstream_tls: settings.value::<bool>("upstream-tls")?.then(|| tls.clone()),
            sentinel_tls: settings.value::<bool>("sentinel-tls")?.then(|| tls.clone()),
            client_tls: ClientTls::from_settings(settings)?,
            client_users_file: settings.optional("client-users-file")?,
            max_queued: usize::try_from(size("max-queued")?).unwrap_or(usize::MAX),
            listen: settings.list("listen")?,
            primary: settings.optional("primary")?,
            replicas: settings.list("replica")?,
            seeds: settings.list("seed")?,
            sentinels: settings.list("sentinel")?,
            sentinel_name: settings.value("sentinel-name")?,
            sentinel_user: settings.optional("sentinel-user")?,
            sentinel_password_file: settings.optional("sentinel-password-file")?,
            upstream_user: settings.optional("upstream-user")?,
            upstream_password_file: settings.optional("upstream-password-file")?,
            consistency: settings.value("consistency")?,
            reads: ReadRules {
                policy: settings.value("read-policy")?,
                zone: settings.optional("zone")?,
                weights: settings.list::<Rule<u32>>("weight")?,
                zones: settings.list::<Rule<String>>("server-zone")?,
            },
            max_lag: settings.value("max-lag")?,
            max_latency: settings.value("max-latency")?,
            failover_wait: settings.value("failover-wait")?,
            probe_interval: some_time("probe-interval")?,
            probe_timeout: some_time("probe-timeout")?,
            connect_timeout: some_time("connect-timeout")?,
            max_clients: positive("max-clients")?,
            max_pipeline: positive("max-pipeline")?,
            max_pipeline_bytes: some_size("max-pipeline-bytes")?,
            max_buffered: some_size("max-buffered")?,
            max_arguments: positive("max-arguments")?,
            max_bulk: size("max-bulk")?,
            max_request: size("max-request")?,
            client_output_limit: usize::try_from(size("client-output-limit")?).unwrap_or(usize::MAX),
            client_write_timeout: some_time("client-write-timeout")?,
            client_idle_timeout: settings.value("client-idle-timeout")?,
            deny: settings.list("deny")?,
            slow_log: settings.value("slow-log")?,
            threads: positive("threads")?,
            admin_listen: settings.optional("admin-listen")?,
            drain: settings.value("drain")?,
        };
        config.check(settings)?;
        Ok(config)
    }

    fn check(&self, settings: &Settings) -> Result<(), ConfigError> {
        if self.listen.is_empty() {
            return Err(settings.invalid("listen", "at least one address is needed"));
        }
        if self.threads > 64 {
            return Err(settings.invalid("threads", "more than 64 threads"));
        }
        self.check_reads(settings)?;
        let tls = [&self.upstream_tls, &self.sentinel_tls].iter().all(|tls| tls.is_none());
        for name in ["upstream-tls-ca", "upstream-tls-cert", "upstream-tls-name"] {
            if tls && settings.optional::<String>(name)?.is_some() {
                return Err(settings.invalid(name, "needs --upstream-tls or --sentinel-tls"));
            }
        }
        let listens_with_tls = self.listen.iter().any(|listen| matches!(listen, Listen::Tls(_)));
        if listens_with_tls && self.client_tls.is_none() {
            return Err(settings.invalid("listen", "a tls: address needs --tls-cert and --tls-key"));
        }
        if self.client_tls.is_some() && !listens_with_tls {
            return Err(settings.invalid("tls-cert", "no --listen address begins with tls:"));
        }
        if !self.cluster.is_empty() {
            let others = self.primary.iter().chain(&self.replicas).chain(&self.seeds).chain(&self.sentinels);
            if others.count() > 0 {
                let reason =
                    "a cluster finds its servers itself; leave out --primary, --replica, --seed, --sentinel";
                return Err(settings.invalid("cluster", reason));
            }
            return Ok(());
        }
        if self.primary.is_none()
            && self.seeds.is_empty()
            && self.sentinels.is_empty()
            && self.discover.is_empty()
        {
            return Err(settings.missing("primary"));
        }
        let mut seen: Vec<&ServerAddr> = self.primary.iter().collect();
        for replica in &self.replicas {
            if seen.contains(&replica) {
                return Err(settings.invalid("replica", &format!("{replica} is named twice")));
            }
            seen.push(replica);
        }
        if self.sentinel_user.is_some() && self.sentinel_password_file.is_none() {
            return Err(settings.invalid("sentinel-user", "needs --sentinel-password-file"));
        }
        if self.upstream_user.is_some() && self.upstream_password_file.is_none() {
            return Err(settings.invalid("upstream-user", "needs --upstream-password-file"));
        }
        Ok(())
    }

    fn check_reads(&self, settings: &Settings) -> Result<(), ConfigError> {
        if self.max_lag.time > crate::topology::MAX_LAG {
            return Err(settings.invalid("max-lag", "at most 5m; 0 is no limit"));
        }
        let ReadRules { policy, zone, zones, .. } = &self.reads;
        if *policy == Policy::Zone && (zone.is_none() || zones.is_empty()) {
            return Err(settings.invalid("read-policy", "zone-first needs --zone and --server-zone"));
        }
        if *policy == Policy::Replica && self.consistency == Consistency::Primary {
            return Err(settings.invalid("read-policy", "replica-only contradicts --consistency primary"));
        }
        if *policy == Policy::Replica && !self.cluster.is_empty() {
            let reason =
                "replica-only is not possible with --cluster, where primaries know which keys are moving";
            return Err(settings.invalid("read-policy", reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::Layers;

    fn parse(flags: &[(&str, &str)]) -> Result<Config, String> {
        let mut layers = Layers::new(&APP);
        for (name, text) in flags {
            layers.flag(name, vec![(*text).to_owned()]).unwrap();
        }
        Config::from_settings(&layers.finish()).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_agree_with_the_embedders_defaults() {
        let config = parse(&[("primary", "a:1")]).unwrap();
        let expected = Config {
            admin_listen: Some(ListenAddr { host: "127.0.0.1".to_owned(), port: 9121 }),
            ..Config::new("a:1".parse().unwrap(), Vec::new())
        };
        assert_eq!(format!("{config:?}"), format!("{expected:?}"));
    }

    #[test]
    fn errors_name_the_flag() {
        assert!(parse(&[]).unwrap_err().contains("--primary is required"));
        assert!(
            parse(&[("primary", "nowhere")]).unwrap_err().starts_with("--primary: `nowhere` is no server")
        );
        assert!(parse(&[("primary", "a:1"), ("replica", "a:1")]).unwrap_err().contains("named twice"));
        assert!(
            parse(&[("primary", "a:1"), ("threads", "0")])
                .unwrap_err()
                .contains("--threads: must be at least 1")
        );
        assert!(parse(&[("primary", "a:1"), ("consistency", "x")]).unwrap_err().contains("no consistency"));
        assert!(parse(&[("primary", "a:1"), ("upstream-user", "u")]).unwrap_err().contains("password-file"));
        assert!(parse(&[("primary", "a:1"), ("read-policy", "best")]).unwrap_err().contains("round-robin"));
        assert!(parse(&[("primary", "a:1"), ("read-policy", "zone-first")]).unwrap_err().contains("--zone"));
        assert!(parse(&[("primary", "a:1"), ("max-lag", "far")]).unwrap_err().contains("16MiB"));
        assert!(parse(&[("primary", "a:1"), ("weight", "b=200")]).unwrap_err().contains("0 to 100"));
    }

    #[test]
    fn lags_are_times_and_sizes() {
        let lag = |text: &str| parse(&[("primary", "a:1"), ("max-lag", text)]).unwrap().max_lag;
        assert_eq!(lag("0"), MaxLag { time: Duration::ZERO, bytes: 0 });
        assert_eq!(lag("2s"), MaxLag { time: Duration::from_secs(2), bytes: 0 });
        assert_eq!(lag("16MiB"), MaxLag { time: Duration::ZERO, bytes: 16 << 20 });
        assert_eq!(lag("1s,1KiB"), MaxLag { time: Duration::from_secs(1), bytes: 1024 });
    }
}
