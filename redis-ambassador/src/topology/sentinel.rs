//! What the Sentinels say: whom they name primary, which replicas they know, and what they are about to do.
//!
//! Each Sentinel is asked every second and its events are listened to, so that a switch is known when it begins and
//! not when it is over. Protocol: <https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/>.

use super::monitor::Monitor;
use super::observe::{self, number, text};
use crate::address::ServerAddr;
use crate::upstream::Access;
use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{RedisError, Value};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Where the Sentinels are and what to ask them for.
#[derive(Debug, Clone)]
pub(crate) struct SentinelSettings {
    pub(crate) sentinels: Vec<ServerAddr>,
    /// Name of the monitored primary.
    pub(crate) name: String,
    pub(crate) access: Arc<Access>,
}

/// Pause between two looks.
const PERIOD: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(1);
/// Pause before a Sentinel that does not answer is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Starts a listener for each Sentinel.
pub(crate) fn start(monitor: &Arc<Monitor>, settings: &SentinelSettings) {
    for (index, address) in settings.sentinels.iter().enumerate() {
        let (monitor, settings, address) = (Arc::clone(monitor), settings.clone(), address.clone());
        let keeper = Arc::clone(&monitor);
        keeper.spawn(async move {
            let mut quiet = false;
            loop {
                if let Err(error) = follow(&monitor, &settings, index, &address).await
                    && !quiet
                {
                    tracing::warn!(sentinel = %address, %error, "Sentinel lost; trying again");
                    quiet = true;
                }
                tokio::time::sleep(RETRY).await;
            }
        });
    }
}

/// Follows one Sentinel until one of its two connections breaks.
async fn follow(
    monitor: &Arc<Monitor>,
    settings: &SentinelSettings,
    index: usize,
    address: &ServerAddr,
) -> Result<(), RedisError> {
    let access = &settings.access;
    let mut events = observe::subscribe(address, access, TIMEOUT).await?;
    events.psubscribe("*").await?;
    let mut connection = observe::connect(address, access, TIMEOUT).await?;
    tracing::info!(sentinel = %address, "following Sentinel");
    let news = Notify::new();
    let looking = async {
        loop {
            look(monitor, settings, index, &mut connection).await?;
            let _ = tokio::time::timeout(PERIOD, news.notified()).await;
        }
    };
    tokio::select! {
        ended = listen(monitor, settings, events, &news) => ended,
        ended = looking => ended,
    }
}

/// Hears the events as they come. Nothing is asked in between: from the announcement of a switch to the promotion
/// pass some 100 ms, and seven events come at once.
async fn listen(
    monitor: &Monitor,
    settings: &SentinelSettings,
    mut events: PubSub,
    news: &Notify,
) -> Result<(), RedisError> {
    let mut messages = events.on_message();
    while let Some(message) = messages.next().await {
        let details: String = message.get_payload().unwrap_or_default();
        on_event(monitor, &settings.name, message.get_channel_name(), &details);
        news.notify_one();
    }
    Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
}

/// What an event means for us.
fn on_event(monitor: &Monitor, name: &str, event: &str, details: &str) {
    if !details.split(' ').any(|word| word == name) {
        return;
    }
    match event {
        // The last step before the promotion is `send-slaveof-noone`, 100 ms later: too short for a busy machine.
        "+failover-state-select-slave" | "+failover-state-send-slaveof-noone" => {
            if let Some(primary) = concerned(details) {
                monitor.hold_writes(&primary);
            }
        }
        "-failover-abort-slave-timeout" | "-failover-abort-no-good-slave" | "-failover-abort-not-elected" => {
            monitor.release_writes();
        }
        "+switch-master" | "+promoted-slave" | "+odown" | "+try-failover" | "+elected-leader" => {
            monitor.alert();
        }
        _ => {}
    }
}

/// The primary an event is about: `master NAME HOST PORT`, or `slave … @ NAME HOST PORT` of one of its replicas.
fn concerned(details: &str) -> Option<ServerAddr> {
    let primary = details.rsplit(" @ ").next()?;
    let mut words = primary.split(' ').rev();
    let port = words.next()?.parse().ok()?;
    Some(ServerAddr::Tcp { host: words.next()?.to_owned(), port })
}

/// Asks for the primary and the replicas.
async fn look(
    monitor: &Arc<Monitor>,
    settings: &SentinelSettings,
    index: usize,
    connection: &mut MultiplexedConnection,
) -> Result<(), RedisError> {
    let ask = |word: &str| redis::cmd("SENTINEL").arg(word).arg(&settings.name).to_owned();
    let primary: Value = ask("MASTER").query_async(connection).await?;
    let fields = fields(&primary);
    if let Some(address) = address(&fields) {
        let epoch = fields.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        monitor.appoint(index, epoch, &address);
    }
    let replicas: Value = ask("SLAVES").query_async(connection).await?;
    if let Value::Array(replicas) = replicas {
        for replica in &replicas {
            if let Some(address) = address(&self::fields(replica)) {
                monitor.add(&address);
            }
        }
    }
    Ok(())
}

fn fields(value: &Value) -> HashMap<String, String> {
    let pairs: Vec<(Option<String>, Option<String>)> = match value {
        Value::Array(items) => items.chunks_exact(2).map(|pair| (text(&pair[0]), shown(&pair[1]))).collect(),
        Value::Map(pairs) => pairs.iter().map(|(key, value)| (text(key), shown(value))).collect(),
        _ => Vec::new(),
    };
    pairs.into_iter().filter_map(|(key, value)| Some((key?, value?))).collect()
}

fn shown(value: &Value) -> Option<String> {
    text(value).or_else(|| number(value).map(|number| number.to_string()))
}

fn address(fields: &HashMap<String, String>) -> Option<ServerAddr> {
    let port = fields.get("port")?.parse().ok().filter(|port| *port != 0)?;
    let host = fields.get("ip").filter(|host| !host.is_empty())?.clone();
    Some(ServerAddr::Tcp { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_its_primary() {
        let primary = |host: &str, port| Some(ServerAddr::Tcp { host: host.to_owned(), port });
        assert_eq!(concerned("master mymaster 10.0.0.1 6379"), primary("10.0.0.1", 6379));
        assert_eq!(
            concerned("slave 10.0.0.2:6379 10.0.0.2 6379 @ mymaster redis-0.redis 6380"),
            primary("redis-0.redis", 6380)
        );
        assert_eq!(concerned("nonsense"), None);
    }

    #[test]
    fn a_sentinels_answer_is_read() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let value = Value::Array(["name", "m", "ip", "10.0.0.1", "port", "6379"].map(bulk).to_vec());
        let expected = ServerAddr::Tcp { host: "10.0.0.1".to_owned(), port: 6379 };
        assert_eq!(address(&fields(&value)), Some(expected));
        assert_eq!(address(&fields(&Value::Nil)), None);
        assert_eq!(address(&fields(&Value::Array(vec![bulk("port"), bulk("0")]))), None);
    }
}
