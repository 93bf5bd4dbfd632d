//! Asking one server.

use super::Observation;
use crate::address::ServerAddr;
use crate::upstream::Access;
use common::secret::ExposeSecret;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value};
use std::time::Duration;

/// Opens a connection for questions.
pub(super) async fn connect(
    address: &ServerAddr,
    access: &Access,
    timeout: Duration,
) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(timeout));
    let open = async {
        let stream = access.open(address).await?;
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&settings(access), stream, config).await?;
        // It ends with the last handle of the connection.
        tokio::spawn(driver);
        Ok(connection)
    };
    within(timeout, open).await
}

async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    tokio::time::timeout(timeout, work).await.map_err(|_| late())?
}

/// Opens a connection for events.
pub(super) async fn subscribe(
    address: &ServerAddr,
    access: &Access,
    timeout: Duration,
) -> Result<PubSub, RedisError> {
    let open = async {
        let stream = access.open(address).await?;
        PubSub::new(&settings(access), stream).await
    };
    within(timeout, open).await
}

fn settings(access: &Access) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(credentials) = access.credentials() {
        settings = settings.set_password(credentials.password.expose_secret());
        if !credentials.user.is_empty() {
            settings = settings.set_username(&credentials.user);
        }
    }
    settings
}

/// Asks a server for its role.
///
/// # Errors
/// The connection is of no use any more.
pub(super) async fn role(connection: &mut MultiplexedConnection) -> Result<Observation, RedisError> {
    match redis::cmd("ROLE").query_async::<Value>(connection).await {
        Ok(value) => Ok(read_role(&value)),
        Err(error) => match refusal(&error) {
            Some(observation) => Ok(observation),
            None => Err(error),
        },
    }
}

/// What an error says about a server that did answer; `None` when it did not.
pub(super) fn refusal(error: &RedisError) -> Option<Observation> {
    let crowded = || error.detail().is_some_and(|detail| detail.contains("max number of clients"));
    match error.code()? {
        "LOADING" => Some(Observation::Loading),
        "ERR" if crowded() => Some(Observation::Unreachable("it has too many clients".to_owned())),
        code => Some(Observation::Silent(code.to_owned())),
    }
}

fn read_role(value: &Value) -> Observation {
    let Value::Array(items) = value else { return Observation::Silent("no array".to_owned()) };
    match (items.first().and_then(text).as_deref(), items.as_slice()) {
        (Some("master"), [_, offset, Value::Array(replicas), ..]) => Observation::Primary {
            offset: number(offset).unwrap_or(0),
            replicas: replicas.iter().filter_map(follower).collect(),
        },
        (Some("slave"), [_, host, port, link, offset, ..]) => Observation::Replica {
            primary: (text(host).unwrap_or_default(), number(port).unwrap_or(0) as u16),
            link: text(link).unwrap_or_default(),
            offset: number(offset),
        },
        _ => Observation::Silent("not a primary nor a replica".to_owned()),
    }
}

fn follower(value: &Value) -> Option<(String, u16)> {
    match value {
        Value::Array(items) => Some((text(items.first()?)?, u16::try_from(number(items.get(1)?)?).ok()?)),
        _ => None,
    }
}

pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        Value::VerbatimString { text, .. } => Some(text.clone()),
        Value::Okay => Some("OK".to_owned()),
        _ => None,
    }
}

pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => text(other)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn roles_are_read() {
        let primary = Value::Array(vec![
            bulk("master"),
            Value::Int(42),
            Value::Array(vec![Value::Nil, Value::Array(vec![bulk("r"), bulk("7")])]),
        ]);
        let expected = Observation::Primary { offset: 42, replicas: vec![("r".to_owned(), 7)] };
        assert_eq!(read_role(&primary), expected);
        let replica =
            Value::Array(vec![bulk("slave"), bulk("h"), Value::Int(1), bulk("sync"), Value::Int(-1)]);
        let expected =
            Observation::Replica { primary: ("h".to_owned(), 1), link: "sync".to_owned(), offset: None };
        assert_eq!(read_role(&replica), expected);
        for nonsense in [Value::Nil, Value::Array(vec![]), Value::Array(vec![bulk("sentinel"), Value::Nil])] {
            assert!(matches!(read_role(&nonsense), Observation::Silent(_)));
        }
    }
}
