//! Settings of the `statsd` mode, named as the peer's flags.

use std::path::PathBuf;
use std::time::Duration;

use common::config::{App, ByteSize, ConfigError, ListenAddr, Setting, Settings};

use super::Reload;
use crate::family::store::Limits;
use crate::ingest;
use crate::mapping::Replacement;
use crate::statsd::Styles;

/// Where lines are copied to.
///
/// ```
/// let relay = metrics_adapter::source::statsd::RelayTarget { address: "127.0.0.1:9125".into(), packet_length: 1400 };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayTarget {
    /// `host:port`, resolved when first used.
    pub address: String,
    /// Bytes per packet.
    pub packet_length: usize,
}

/// Settings of the `statsd` mode.
///
/// ```
/// use metrics_adapter::{Layers, ListenAddr, source::statsd};
///
/// let mut config = statsd::Config::from_settings(&Layers::new(&statsd::APP).finish())?;
/// config.udp = Some(ListenAddr::loopback(8125));
/// config.mapping = Some("mapping.yaml".into());
/// # Ok::<(), metrics_adapter::SettingError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// Where HTTP is served.
    pub web_listen: ListenAddr,
    /// Path of the page.
    pub telemetry_path: String,
    /// Whether `/-/reload` and `/-/quit` are served.
    pub lifecycle: bool,
    /// TLS and passwords of the HTTP server, in the exporter-toolkit's format.
    pub web_config: Option<PathBuf>,
    /// UDP listener.
    pub udp: Option<ListenAddr>,
    /// UDP sockets sharing that address.
    pub udp_sockets: usize,
    /// Datagrams that may wait for the parser.
    pub udp_queue: usize,
    /// TCP listener.
    pub tcp: Option<ListenAddr>,
    /// Unix datagram socket: a path, or `@` and an abstract name.
    pub unixgram: Option<String>,
    /// Its permissions; `None` leaves them to the umask.
    pub unix_mode: Option<u32>,
    /// Receive buffer of datagram sockets in bytes; 0 asks for a good size as far as the kernel allows.
    pub read_buffer: usize,
    /// The mapping file.
    pub mapping: Option<PathBuf>,
    /// Where to write the glob state machine at start.
    pub dump_fsm: Option<PathBuf>,
    /// How lines are taken in.
    pub ingest: ingest::Options,
    /// Bounds of the store.
    pub limits: Limits,
    /// Bound of the whole process's resident memory in bytes.
    pub memory_limit: usize,
    /// Where lines are copied to.
    pub relay: Option<RelayTarget>,
    /// Settings that are understood but have nothing to act on here, and why; said once at start.
    pub idle_settings: Vec<(&'static str, &'static str)>,
    /// Asks for reloads.
    pub reload: Reload,
}

const LISTEN: &str = "Listeners";
const LINES: &str = "Lines";
const MAPPING: &str = "Mapping";
const BOUNDS: &str = "Bounds";
const WEB: &str = "HTTP";

/// The settings table of the `statsd` mode.
///
/// ```
/// use metrics_adapter::{Layers, source::statsd};
///
/// assert_eq!(Layers::new(&statsd::APP).finish().text("statsd.listen-udp"), Some(":9125"));
/// ```
pub const APP: App = App {
    after_help: "Commands instead of running:\n  \
        explain LINE   show how a line is parsed, which rule it meets, and the samples it makes\n  \
        lint           show rules of the mapping that can never match\n  \
        test FILE      check the lines and expected samples of a YAML file against the mapping\n\n\
        Signals: SIGHUP reloads the mapping, SIGTERM and SIGINT end.\n\n\
        Examples:\n  \
        metrics-adapter statsd --statsd.listen-udp 127.0.0.1:9125 --web.listen-address :9102\n  \
        metrics-adapter statsd --statsd.mapping-config mapping.yaml\n  \
        metrics-adapter statsd explain 'shop.orders.eu:3|c' --statsd.mapping-config mapping.yaml",
    settings: &[
        Setting::text("web.listen-address", "ADDR", "Address for metrics and status")
            .default(":9102")
            .group(WEB),
        Setting::text("web.telemetry-path", "PATH", "Path of the metrics page")
            .default("/metrics")
            .group(WEB),
        Setting::switch("web.enable-lifecycle", "Serve /-/reload and /-/quit").negatable().group(WEB),
        Setting::text(
            "web.config.file",
            "FILE",
            "TLS and passwords, in the format of the Prometheus exporter-toolkit",
        )
        .group(WEB),
        Setting::text("statsd.listen-udp", "ADDR", "UDP address; empty for none")
            .default(":9125")
            .group(LISTEN),
        Setting::text("statsd.listen-tcp", "ADDR", "TCP address; empty for none")
            .default(":9125")
            .group(LISTEN),
        Setting::text("statsd.listen-unixgram", "PATH", "Unix datagram socket (@NAME for an abstract one)")
            .group(LISTEN),
        Setting::text("statsd.unixsocket-mode", "OCTAL", "Permissions of the unix socket")
            .default("755")
            .group(LISTEN),
        Setting::text(
            "statsd.read-buffer",
            "BYTES",
            "Receive buffer of datagram sockets; 0 asks for 4 MiB as far as the kernel allows",
        )
        .default("0")
        .group(LISTEN),
        Setting::text("statsd.udp-sockets", "N", "UDP sockets sharing the address, one thread each")
            .default("1")
            .group(LISTEN),
        Setting::text("statsd.udp-packet-queue-size", "N", "UDP packets that may wait for the parser")
            .default("10000")
            .group(LISTEN),
        Setting::switch("statsd.parse-dogstatsd-tags", "Read DogStatsD tags (name:1|c|#k:v)")
            .default("true")
            .negatable()
            .group(LINES),
        Setting::switch("statsd.parse-influxdb-tags", "Read InfluxDB tags (name,k=v:1|c)")
            .default("true")
            .negatable()
            .group(LINES),
        Setting::switch("statsd.parse-librato-tags", "Read Librato tags (name#k=v:1|c)")
            .default("true")
            .negatable()
            .group(LINES),
        Setting::switch("statsd.parse-signalfx-tags", "Read SignalFX tags (name[k=v]:1|c)")
            .default("true")
            .negatable()
            .group(LINES),
        Setting::switch("statsd.parse-sets", "Count the members of sets (name:x|s)")
            .default("true")
            .negatable()
            .group(LINES),
        Setting::text("statsd.set-window", "DURATION", "Time after which a set forgets a member")
            .default("10m")
            .group(LINES),
        Setting::text("statsd.mapping-config", "FILE", "Mapping file (YAML)").group(MAPPING),
        Setting::text("statsd.cache-size", "N", "Mapping results remembered; 0 for none")
            .default("1000")
            .group(MAPPING),
        Setting::text("statsd.cache-type", "TYPE", "Which of them goes first: lru or random")
            .default("lru")
            .group(MAPPING),
        Setting::text("debug.dump-fsm", "FILE", "Write the glob state machine as a Graphviz graph")
            .group(MAPPING),
        Setting::text("max-series", "N", "Series at one time; further ones are counted and dropped")
            .default("1000000")
            .group(BOUNDS),
        Setting::text("memory-limit", "SIZE", "Resident memory above which no new series is taken")
            .default("512MiB")
            .group(BOUNDS),
        Setting::text("statsd.event-queue-size", "N", "Accepted for compatibility: there is no event queue")
            .default("10000")
            .group(BOUNDS),
        Setting::text(
            "statsd.event-flush-threshold",
            "N",
            "Accepted for compatibility: events are applied at once",
        )
        .default("1000")
        .group(BOUNDS),
        Setting::text(
            "statsd.event-flush-interval",
            "DURATION",
            "Accepted for compatibility: events are applied at once",
        )
        .default("200ms")
        .group(BOUNDS),
        Setting::text("statsd.relay.address", "ADDR", "UDP host:port that gets a copy of every line")
            .group("Relay"),
        Setting::text("statsd.relay.packet-length", "BYTES", "Longest packet to the relay")
            .default("1400")
            .group("Relay"),
    ],
    ..App::new(
        "metrics-adapter statsd",
        "METRICS_ADAPTER",
        "Takes StatsD lines and serves them as Prometheus metrics (drop-in for statsd_exporter)",
    )
};

const AT_ONCE: &str = "every line is on the page as soon as it is received";
/// Settings of the peer's event queue, and why they have nothing to act on here.
const IDLE: [(&str, &str); 3] = [
    (
        "statsd.event-queue-size",
        "there is no event queue; --statsd.udp-packet-queue-size and --memory-limit bound what waits and what is held",
    ),
    ("statsd.event-flush-threshold", AT_ONCE),
    ("statsd.event-flush-interval", AT_ONCE),
];

impl Config {
    /// Reads and checks the settings.
    ///
    /// # Errors
    /// A value that does not parse, or settings that contradict each other.
    ///
    /// ```
    /// use metrics_adapter::{Layers, source::statsd};
    ///
    /// let mut layers = Layers::new(&statsd::APP);
    /// layers.flag("statsd.listen-tcp", vec![String::new()])?;
    /// let config = statsd::Config::from_settings(&layers.finish())?;
    /// assert!(config.tcp.is_none() && config.udp.is_some());
    /// # Ok::<(), metrics_adapter::SettingError>(())
    /// ```
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let size = settings.value::<ByteSize>("memory-limit")?;
        let memory_limit = usize::try_from(size.0).unwrap_or(usize::MAX);
        // Checked although they have nothing to act on, so that a typo does not pass unseen.
        settings.value::<u32>(IDLE[0].0)?;
        settings.value::<u32>(IDLE[1].0)?;
        settings.value::<Duration>(IDLE[2].0)?;
        let config = Self {
            web_listen: settings.value("web.listen-address")?,
            telemetry_path: settings.text("web.telemetry-path").unwrap_or_default().to_owned(),
            lifecycle: settings.value("web.enable-lifecycle")?,
            web_config: settings.optional("web.config.file")?,
            udp: settings.optional("statsd.listen-udp")?,
            udp_sockets: bounded(settings, "statsd.udp-sockets", 1, 64)?,
            udp_queue: settings.value("statsd.udp-packet-queue-size")?,
            tcp: settings.optional("statsd.listen-tcp")?,
            unixgram: settings.optional("statsd.listen-unixgram")?,
            unix_mode: unix_mode(settings)?,
            read_buffer: settings.value("statsd.read-buffer")?,
            mapping: settings.optional("statsd.mapping-config")?,
            dump_fsm: settings.optional("debug.dump-fsm")?,
            ingest: ingest_options(settings)?,
            limits: Limits { series: settings.value("max-series")?, bytes: series_bytes(memory_limit) },
            memory_limit,
            relay: relay(settings)?,
            idle_settings: IDLE.into_iter().filter(|(name, _)| settings.is_set(name)).collect(),
            reload: Reload::default(),
        };
        if config.udp.is_none() && config.tcp.is_none() && config.unixgram.is_none() {
            let names = "--statsd.listen-udp, --statsd.listen-tcp and --statsd.listen-unixgram";
            return Err(ConfigError::Conflict(format!("at least one of {names} must be set")));
        }
        Ok(config)
    }
}

/// The estimated bytes that series may take of the whole process's limit: it needs some by itself, and the allocator,
/// the index of a scrape and a page that is being written take a quarter of the rest.
fn series_bytes(memory_limit: usize) -> usize {
    const ITSELF: usize = 16 << 20;
    memory_limit.saturating_sub(ITSELF).max(memory_limit / 4) / 4 * 3
}

fn ingest_options(settings: &Settings) -> Result<ingest::Options, ConfigError> {
    let window = settings.value::<Duration>("statsd.set-window")?;
    let sets = settings.value::<bool>("statsd.parse-sets")?;
    let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1);
    Ok(ingest::Options {
        styles: Styles {
            dogstatsd: settings.value("statsd.parse-dogstatsd-tags")?,
            influxdb: settings.value("statsd.parse-influxdb-tags")?,
            librato: settings.value("statsd.parse-librato-tags")?,
            signalfx: settings.value("statsd.parse-signalfx-tags")?,
        },
        set_window: if sets { window } else { 0 },
        cache_size: bounded(settings, "statsd.cache-size", 0, 10_000_000)?,
        replacement: match settings.text("statsd.cache-type") {
            Some("lru") => Replacement::Lru,
            Some("random") => Replacement::Random,
            other => {
                let reason = format!("`{}` is neither lru nor random", other.unwrap_or_default());
                return Err(settings.invalid("statsd.cache-type", &reason));
            }
        },
    })
}

fn relay(settings: &Settings) -> Result<Option<RelayTarget>, ConfigError> {
    let packet_length = bounded(settings, "statsd.relay.packet-length", 2, 65_507)?;
    let Some(address) = settings.optional::<String>("statsd.relay.address")? else { return Ok(None) };
    let port =
        address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(port)) if port > 0 => Ok(Some(RelayTarget { address, packet_length })),
        _ => Err(settings.invalid("statsd.relay.address", &format!("`{address}` is not host:port"))),
    }
}

/// Reads the permissions; as in the peer a bad text is only warned about.
fn unix_mode(settings: &Settings) -> Result<Option<u32>, ConfigError> {
    let text: String = settings.value("statsd.unixsocket-mode")?;
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777);
    if mode.is_none() {
        tracing::warn!(
            mode = text,
            "statsd.unixsocket-mode is not octal; the permissions stay as they are made"
        );
    }
    Ok(mode)
}

fn bounded(settings: &Settings, name: &'static str, least: usize, most: usize) -> Result<usize, ConfigError> {
    let value: usize = settings.value(name)?;
    match (least..=most).contains(&value) {
        true => Ok(value),
        false => Err(settings.invalid(name, &format!("{value} is not between {least} and {most}"))),
    }
}
