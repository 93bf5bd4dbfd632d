//! A session with one JVM, over whichever transport its address names.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::settings::{TargetSettings, Transport};
use crate::jmx::client::{self, AttributeRequest, AttributeResult, BeanAnswer};
use crate::jmx::jolokia;
use crate::jmx::local::{self, Content, LocalError, Selector};
use crate::jmx::mbean::{AttributeInfo, MBeanInfo, ObjectInstance};
use crate::jmx::number::Number;
use crate::jmx::object_name::ObjectName;
use crate::jmx::value::Value;

/// A failed operation, whatever the transport.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Rmi(#[from] client::Error),
    /// More beans than one answer may hold.
    #[error("the list of beans is too long to be read; ask for fewer with `includeObjectNames`")]
    TooManyBeans(#[source] client::Error),
    #[error(transparent)]
    Jolokia(#[from] jolokia::Error),
    #[error(transparent)]
    Local(#[from] LocalError),
    /// A task that blocks was aborted; only at shutdown.
    #[error("reading a local JVM was aborted")]
    Aborted,
}

/// An open session.
#[derive(Debug)]
pub(super) enum Session {
    Rmi(Box<client::Client>),
    /// The same, to an agent that was started through the attach protocol. Its stub dies with its JVM.
    Attached(Box<client::Client>),
    Jolokia(Box<jolokia::Client>),
    PerfData(PerfData),
}

impl Session {
    pub(super) async fn open(settings: &TargetSettings, reply: Duration) -> Result<Self, Error> {
        let mut options = settings.options.clone();
        options.timeouts.reply = reply;
        match &settings.transport {
            Transport::Rmi => Ok(Self::Rmi(Box::new(client::Client::connect(options).await?))),
            Transport::Jolokia(agent) => {
                let client::Options { credentials, tls, timeouts, .. } = options;
                let tls = if agent.url.tls { tls } else { None };
                let jolokia::Options { url, tables, .. } = (**agent).clone();
                let options = jolokia::Options { url, credentials, tls, timeouts, tables };
                Ok(Self::Jolokia(Box::new(jolokia::Client::connect(options).await?)))
            }
            Transport::Attach(selector) => {
                let selector = selector.clone();
                let stub = blocking(move || local::attach::local_connector(&local::find(&selector)?)).await?;
                options.stub = Some(stub);
                // The agent takes connections from this machine only, over whatever address it names.
                "127.0.0.1".clone_into(&mut options.registry.host);
                Ok(Self::Attached(Box::new(client::Client::connect(options).await?)))
            }
            Transport::PerfData(selector) => {
                let mut session = PerfData { selector: selector.clone(), beans: BTreeMap::new() };
                session.refresh().await?;
                Ok(Self::PerfData(session))
            }
        }
    }

    /// A second way to read in the same session at the same time, where there is one.
    pub(super) fn sibling(&self) -> Option<Self> {
        match self {
            Self::Rmi(client) => Some(Self::Rmi(Box::new(client.sibling()))),
            Self::Attached(client) => Some(Self::Attached(Box::new(client.sibling()))),
            Self::Jolokia(_) | Self::PerfData(_) => None,
        }
    }

    /// Whether a failed session is of use for another try.
    pub(super) fn outlives_errors(&self) -> bool {
        !matches!(self, Self::Attached(_))
    }

    pub(super) fn set_reply_timeout(&mut self, limit: Duration) {
        match self {
            Self::Rmi(client) | Self::Attached(client) => client.set_reply_timeout(limit),
            Self::Jolokia(client) => client.set_reply_timeout(limit),
            Self::PerfData(_) => {}
        }
    }

    /// Names and classes of all beans, or of those that match one of the patterns.
    pub(super) async fn query(
        &mut self,
        patterns: Option<&[ObjectName]>,
    ) -> Result<Vec<ObjectInstance>, Error> {
        match self {
            Self::Rmi(client) | Self::Attached(client) => {
                let Some(patterns) = patterns else {
                    return client.query_mbeans(None).await.map_err(listing);
                };
                let mut seen = HashSet::new();
                let mut instances = Vec::new();
                for pattern in patterns {
                    let found = client.query_mbeans(Some(pattern.as_str())).await.map_err(listing)?;
                    instances.extend(found.into_iter().filter(|instance| seen.insert(instance.name.clone())));
                }
                Ok(instances)
            }
            Self::Jolokia(client) => {
                let all = ["*:*"];
                let patterns =
                    patterns.map(|patterns| patterns.iter().map(ObjectName::as_str).collect::<Vec<_>>());
                Ok(client.query(patterns.as_deref().unwrap_or(&all)).await?)
            }
            Self::PerfData(session) => {
                session.refresh().await?;
                Ok(session.instances(patterns))
            }
        }
    }

    /// Names of the beans, of those that match one of the patterns, that are not described by their class alone;
    /// `None` when that cannot be found out.
    pub(super) async fn dynamic_beans(
        &mut self,
        patterns: Option<&[ObjectName]>,
    ) -> Result<Option<HashSet<String>>, Error> {
        const DYNAMIC: &str = "javax.management.DynamicMBean";
        let (Self::Rmi(client) | Self::Attached(client)) = self else { return Ok(None) };
        let patterns: Vec<Option<&str>> = match patterns {
            None => vec![None],
            Some(patterns) => patterns.iter().map(|pattern| Some(pattern.as_str())).collect(),
        };
        let mut names = HashSet::new();
        for pattern in patterns {
            match client.query_names_of(pattern, DYNAMIC).await {
                Ok(found) => names.extend(found),
                // A server of its own kind may take no queries.
                Err(client::Error::Thrown { .. }) => return Ok(None),
                Err(error) => return Err(listing(error)),
            }
        }
        Ok(Some(names))
    }

    pub(super) async fn mbean_infos(&mut self, names: &[&str]) -> Result<Vec<Option<MBeanInfo>>, Error> {
        match self {
            Self::Rmi(client) | Self::Attached(client) => Ok(client.mbean_infos(names).await?),
            Self::Jolokia(client) => Ok(client.mbean_infos(names).await?),
            Self::PerfData(session) => Ok(names.iter().map(|name| session.info(name)).collect()),
        }
    }

    pub(super) async fn attributes(
        &mut self,
        requests: &[AttributeRequest<'_>],
    ) -> Result<Vec<BeanAnswer>, Error> {
        match self {
            // On the heap: they are large, and called from several places.
            Self::Rmi(client) | Self::Attached(client) => Ok(Box::pin(client.attributes(requests)).await?),
            Self::Jolokia(client) => Ok(Box::pin(client.attributes(requests)).await?),
            Self::PerfData(session) => Ok(requests.iter().map(|request| session.read(request)).collect()),
        }
    }

    /// Ends the session on the other side, as far as there is one.
    pub(super) async fn close(self) {
        if let Self::Rmi(client) | Self::Attached(client) = self {
            client.close().await;
        }
    }
}

fn listing(error: client::Error) -> Error {
    if error.is_limit() { Error::TooManyBeans(error) } else { Error::Rmi(error) }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LocalError> + Send + 'static,
) -> Result<T, Error> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| Error::Aborted)??)
}

/// The counters of `hsperfdata` as beans: `hsperfdata:type=sun.gc.collector.0` has the attribute `invocations`.
#[derive(Debug)]
pub(super) struct PerfData {
    selector: Selector,
    beans: BTreeMap<String, Vec<(Arc<str>, Value)>>,
}

impl PerfData {
    async fn refresh(&mut self) -> Result<(), Error> {
        let selector = self.selector.clone();
        let counters = blocking(move || local::read_perf_data(&local::find(&selector)?)).await?;
        self.beans.clear();
        for counter in counters {
            let (group, attribute) = counter.name.rsplit_once('.').unwrap_or(("", &counter.name));
            // The command line and system properties may hold secrets, as the peer knows too.
            let value = match counter.value {
                Content::Number(value) => Value::Number(Number::Long(value)),
                Content::Text(_) if group.starts_with("java.rt") || group.starts_with("java.property") => {
                    continue;
                }
                Content::Text(text) => Value::String(text),
            };
            let bean = self.beans.entry(format!("hsperfdata:type={group}")).or_default();
            bean.push((attribute.into(), value));
        }
        Ok(())
    }

    fn instances(&self, patterns: Option<&[ObjectName]>) -> Vec<ObjectInstance> {
        let wanted = |name: &&String| {
            patterns.is_none_or(|patterns| {
                name.parse().is_ok_and(|name| patterns.iter().any(|pattern| pattern.matches(&name)))
            })
        };
        let names = self.beans.keys().filter(wanted);
        names.map(|name| ObjectInstance { name: name.as_str().into(), class: "hsperfdata".into() }).collect()
    }

    fn info(&self, name: &str) -> Option<MBeanInfo> {
        let attributes = self.beans.get(name)?.iter().map(|(attribute, value)| AttributeInfo {
            name: attribute.as_ref().to_owned(),
            class: if matches!(value, Value::Number(_)) { "long" } else { "java.lang.String" }.to_owned(),
            description: String::new(),
            readable: true,
        });
        Some(MBeanInfo {
            class: "hsperfdata".to_owned(),
            description: String::new(),
            immutable: false,
            attributes: attributes.collect(),
        })
    }

    fn read(&self, request: &AttributeRequest<'_>) -> BeanAnswer {
        let values = self.beans.get(request.bean).map_or(&[][..], Vec::as_slice);
        let wanted = values.iter().filter(|(name, _)| request.attributes.contains(&&**name));
        BeanAnswer::Values(AttributeResult { values: wanted.cloned().collect(), unreadable: Vec::new() })
    }
}
