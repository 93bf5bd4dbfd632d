//! Ready modules: what well-known servers say, under the names and labels of their well-known exporters.
//!
//! The readers are pure; `Server` fetches what they read.

mod apache;
mod haproxy;
mod memcached;
mod nginx;
mod php_fpm;
mod rabbitmq;
mod redis;
mod zookeeper;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::address::Address;
use super::http::Fetch;
use super::{Gather, GatherError, Gathering, fastcgi};
use crate::family::{Family, Kind, PackedLabels, Sample};
use crate::reader::{Builder, ReadError, Reading};

/// Names of the modules, as `type` in a configuration.
pub const NAMES: [&str; 8] =
    ["nginx", "apache", "haproxy", "php_fpm", "memcached", "redis", "zookeeper", "rabbitmq"];

/// How a module is reached.
#[derive(Clone)]
pub(super) enum Reach {
    /// `nginx`, `apache`, `haproxy`, `php_fpm` behind a web server, `rabbitmq`.
    Http(Box<Fetch>),
    /// `memcached`, `redis`, `zookeeper`, `haproxy` by its socket.
    Stream(Address),
    /// `php_fpm` itself, and the path of its status page.
    FastCgi(Address, String),
}

/// Which module's page these bytes are, if they are one.
pub(super) fn guess(bytes: &[u8], limit: usize) -> Option<(&'static str, &'static str, Reading)> {
    let text = String::from_utf8_lossy(bytes);
    let text: &str = &text;
    type Read<'a> = &'a dyn Fn(&mut Builder) -> Result<(), ReadError>;
    let known: [(&str, &str, Read<'_>); 4] = [
        ("nginx's stub_status", "nginx", &|out| nginx::read(text, out)),
        ("Apache's server-status", "apache", &|out| apache::read(text, out)),
        ("HAProxy's statistics", "haproxy", &|out| haproxy::read(text, out)),
        ("PHP-FPM's status", "php_fpm", &|out| php_fpm::read(bytes, out)),
    ];
    known.into_iter().find_map(|(format, kind, read)| {
        let mut out = Builder::new(limit);
        read(&mut out).ok()?;
        Some((format, kind, out.finish()))
    })
}

/// One server.
pub(super) struct Server {
    pub(super) module: &'static str,
    pub(super) reach: Reach,
    /// User and password file, where the protocol itself has them.
    pub(super) login: Option<(String, std::path::PathBuf)>,
    pub(super) limit: usize,
    pub(super) max_series: usize,
    pub(super) known: Known,
}

/// What is known of a server although it does not answer.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Those of [`Server::names`].
    labels: Mutex<PackedLabels>,
    failures: AtomicU64,
}

/// Counts as a failure unless it is told to be none before it is dropped.
struct Attempt<'a>(&'a Known);

impl Attempt<'_> {
    fn succeeded(self) {
        std::mem::forget(self);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.0.failures.fetch_add(1, Ordering::Relaxed);
    }
}

impl Known {
    /// The labels of these names, as the server said them last.
    fn labels(&self, names: &[&str], reading: &Reading) -> PackedLabels {
        let mut last = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        let has_all =
            |sample: &&Sample| names.iter().all(|name| sample.labels.labels().value(name).is_some());
        let samples = reading.families.iter().flat_map(|family| &family.samples);
        if let Some(sample) = samples.into_iter().find(has_all).filter(|_| !names.is_empty()) {
            *last = sample.labels.iter().filter(|(name, _)| names.contains(name)).collect();
        }
        last.clone()
    }
}

/// The default address of a module.
pub(super) fn default_address(module: &str) -> &'static str {
    match module {
        "nginx" => "http://127.0.0.1/stub_status",
        "apache" => "http://127.0.0.1/server-status?auto",
        "haproxy" => "unix:/run/haproxy/admin.sock",
        "php_fpm" => "127.0.0.1:9000",
        "memcached" => "127.0.0.1:11211",
        "redis" => "127.0.0.1:6379",
        "zookeeper" => "127.0.0.1:2181",
        _ => "http://127.0.0.1:15672",
    }
}

/// The port of a stream address that names none.
pub(super) fn default_port(module: &str) -> Option<u16> {
    default_address(module).rsplit_once(':').and_then(|(_, port)| port.parse().ok())
}

impl Server {
    fn up(&self) -> (&'static str, &'static str) {
        match self.module {
            "nginx" => ("nginx_up", "Whether nginx answered."),
            "apache" => ("apache_up", "Whether Apache answered."),
            "haproxy" => ("haproxy_up", "Whether HAProxy answered."),
            "memcached" => ("memcached_up", "Whether memcached answered."),
            "redis" => ("redis_up", "Whether Redis answered."),
            "php_fpm" => ("phpfpm_up", "Whether PHP-FPM answered."),
            "zookeeper" => ("zk_up", "Whether ZooKeeper answered."),
            _ => ("rabbitmq_up", "Whether RabbitMQ answered."),
        }
    }

    /// Labels that the exporter of this server puts on everything.
    fn place(&self) -> Vec<(&'static str, String)> {
        match (&self.reach, self.module) {
            (Reach::FastCgi(address, path), _) => {
                let path = path.trim_start_matches('/');
                vec![(
                    "scrape_uri",
                    match address {
                        Address::Tcp(address) => format!("tcp://{address}/{path}"),
                        Address::Unix(socket) => format!("unix://{};/{path}", socket.display()),
                    },
                )]
            }
            (Reach::Http(fetch), "php_fpm") => vec![("scrape_uri", fetch.uri.to_string())],
            (Reach::Stream(address), "zookeeper") => vec![("zk_host", address.to_string())],
            _ => Vec::new(),
        }
    }

    async fn ask(&self) -> Result<Builder, GatherError> {
        let mut out = Builder::new(self.max_series);
        match (&self.reach, self.module) {
            (Reach::Http(fetch), "rabbitmq") => rabbitmq::gather(fetch, &mut out).await?,
            (Reach::Http(fetch), _) => self.document(&fetch.fetch().await?, &mut out)?,
            (Reach::FastCgi(address, path), _) => {
                let body = fastcgi::get(address, path, "json&full", self.limit).await?;
                self.document(&body, &mut out)?;
            }
            (Reach::Stream(address), "memcached") => {
                let answer = address.exchange(memcached::COMMANDS, self.limit, |_| false).await?;
                self.document(&answer, &mut out)?;
            }
            (Reach::Stream(address), "redis") => {
                let commands = redis::commands(self.login.as_ref())?;
                let answer = address.exchange(&commands, self.limit, |_| false).await?;
                redis::read(&answer, self.login.is_some(), &mut out)?;
            }
            (Reach::Stream(address), "zookeeper") => {
                let answer = address.exchange(b"mntr", self.limit, |_| false).await?;
                self.document(&answer, &mut out)?;
                let answer = address.exchange(b"ruok", self.limit, |_| false).await;
                zookeeper::read_ruok(&answer.unwrap_or_default(), &mut out);
            }
            (Reach::Stream(address), _) => {
                let info = address.exchange(b"show info\n", self.limit, |_| false).await?;
                haproxy::read_info(&String::from_utf8_lossy(&info), &mut out);
                let stat = address.exchange(b"show stat\n", self.limit, |_| false).await?;
                self.document(&stat, &mut out)?;
            }
        }
        Ok(out)
    }

    fn document(&self, bytes: &[u8], out: &mut Builder) -> Result<(), ReadError> {
        let text = String::from_utf8_lossy(bytes);
        match self.module {
            "nginx" => nginx::read(&text, out),
            "apache" => apache::read(&text, out),
            "haproxy" => haproxy::read(&text, out),
            "memcached" => memcached::read(&text, out),
            "zookeeper" => zookeeper::read(&text, out),
            "redis" => redis::read_info(&text, out),
            "rabbitmq" => rabbitmq::read_all(bytes, out),
            _ => php_fpm::read(bytes, out),
        }
    }

    fn answered(&self, out: Builder) -> Reading {
        self.said(true, out.finish())
    }

    /// Labels of the server that its exporter puts on `…_up`.
    fn names(&self) -> &'static [&'static str] {
        match self.module {
            "php_fpm" => &["pool"],
            "rabbitmq" => &["cluster", "node"],
            _ => &[],
        }
    }

    /// Adds whether the server answered.
    fn said(&self, up: bool, mut reading: Reading) -> Reading {
        let labels = self.known.labels(self.names(), &reading);
        if self.module == "php_fpm" {
            let help = "Times PHP-FPM did not answer.";
            let mut failures = Family::new("phpfpm_scrape_failures", help, Kind::Counter);
            failures.push(labels.clone(), self.known.failures.load(Ordering::Relaxed) as f64);
            reading.families.push(failures);
        }
        let (name, help) = self.up();
        let mut family = Family::new(name, help, Kind::Gauge);
        family.push(labels, f64::from(u8::from(up)));
        reading.families.push(family);
        self.place_all(&mut reading);
        reading
    }
}

impl Gather for Server {
    fn gather(&self) -> Gathering<'_> {
        Box::pin(async {
            let attempt = Attempt(&self.known);
            let out = self.ask().await?;
            attempt.succeeded();
            Ok(self.answered(out))
        })
    }

    fn read(&self, document: &[u8]) -> Option<Result<Reading, GatherError>> {
        let mut out = Builder::new(self.max_series);
        let read = self.document(document, &mut out).map_err(GatherError::from);
        Some(read.map(|()| self.answered(out)))
    }

    fn down(&self) -> Vec<Family> {
        self.said(false, Reading::default()).families
    }
}

impl Server {
    fn place_all(&self, reading: &mut Reading) {
        let place = self.place();
        for sample in reading.families.iter_mut().flat_map(|family| &mut family.samples) {
            let place = place.iter().map(|(name, value)| (*name, value.as_str()));
            sample.labels = PackedLabels::new(sample.labels.iter().chain(place));
        }
    }
}

/// One line of a table: key of the server, name of the metric, kind, factor, help.
type Entry = (&'static str, &'static str, Kind, f64, &'static str);

/// Adds what the table has for a key.
fn from_table(table: &[Entry], key: &str, value: f64, labels: &[(&str, &str)], out: &mut Builder) -> bool {
    let Some((_, name, kind, scale, help)) = table.iter().find(|entry| entry.0 == key) else { return false };
    out.put(name, help, *kind, labels, value * scale);
    true
}
