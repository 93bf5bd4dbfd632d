//! Many calls in flight on one connection, and the way around replies that break it.

use std::sync::Arc;

use super::connection::Event;
use super::error::{Error, Phase};
use super::template::{Key, Templates};
use super::{Client, mbean};
use crate::jmx::jrmp::{self, Argument, Method, Outcome, encode_call};
use crate::jmx::mbean::MBeanInfo;
use crate::jmx::remote::RemoteException;
use crate::jmx::serialization::{self, Graph};
use crate::jmx::value::{self, Budget, Value};

/// Calls are sent in batches of about this many bytes, which bounds the memory they take.
const BATCH_BYTES: usize = 64 * 1024;

/// Which attributes of which bean.
///
/// ```
/// use metrics_adapter::jmx::client::AttributeRequest;
///
/// let request = AttributeRequest { bean: "java.lang:type=Memory", attributes: &["HeapMemoryUsage", "Verbose"] };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AttributeRequest<'a> {
    /// Object name.
    pub bean: &'a str,
    /// Attribute names.
    pub attributes: &'a [&'a str],
}

/// An attribute's name and value. Names are shared among replies of the same form.
pub type NamedValue = (Arc<str>, Value);

/// The attributes of one bean.
///
/// ```no_run
/// # use metrics_adapter::jmx::client::{AttributeRequest, Client, Options};
/// # async fn example() -> Result<(), metrics_adapter::jmx::client::Error> {
/// # let mut client = Client::connect(Options::new("localhost", 9010)).await?;
/// # use metrics_adapter::jmx::client::BeanAnswer;
/// let request = AttributeRequest { bean: "java.lang:type=Runtime", attributes: &["Uptime"] };
/// if let BeanAnswer::Values(result) = client.attributes(&[request]).await?.remove(0) {
///     println!("{:?}, not readable: {:?}", result.values, result.unreadable);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttributeResult {
    /// Names and values in the order of the answer.
    pub values: Vec<NamedValue>,
    /// Attributes that break the connection when read; do not ask for them again.
    pub unreadable: Vec<String>,
}

/// What became of the request for one bean's attributes.
///
/// ```
/// use metrics_adapter::jmx::client::BeanAnswer;
///
/// fn told(answer: &BeanAnswer) -> String {
///     match answer {
///         BeanAnswer::Values(result) => format!("{} attributes", result.values.len()),
///         BeanAnswer::Threw(exception) => format!("threw {exception}"),
///         BeanAnswer::TimedOut => "took too long".into(),
///     }
/// }
/// assert_eq!(told(&BeanAnswer::TimedOut), "took too long");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum BeanAnswer {
    /// It was answered.
    Values(AttributeResult),
    /// The call threw; usually because the bean has gone.
    Threw(RemoteException),
    /// A getter did not return in time. Its thread in the JVM may still be waiting.
    TimedOut,
}

impl BeanAnswer {
    /// The values, or none.
    ///
    /// ```
    /// use metrics_adapter::jmx::client::{AttributeResult, BeanAnswer};
    ///
    /// assert!(BeanAnswer::TimedOut.values().is_empty());
    /// assert!(BeanAnswer::Values(AttributeResult::default()).values().is_empty());
    /// ```
    #[must_use]
    pub fn values(self) -> Vec<NamedValue> {
        match self {
            Self::Values(result) => result.values,
            Self::Threw(_) | Self::TimedOut => Vec::new(),
        }
    }
}

impl IntoIterator for AttributeResult {
    type Item = NamedValue;
    type IntoIter = std::vec::IntoIter<NamedValue>;

    fn into_iter(self) -> Self::IntoIter {
        self.values.into_iter()
    }
}

/// Reads replies without decoding them.
trait Shortcut<T> {
    /// The reply to the call of this index from its first bytes, and how many they are.
    fn take(&mut self, call: usize, bytes: &[u8]) -> Option<(usize, T)>;

    /// Sees a reply that was decoded.
    fn learn(&mut self, call: usize, graph: &Graph, value: serialization::Value, bytes: &[u8]);
}

struct NoShortcut;

impl<T> Shortcut<T> for NoShortcut {
    fn take(&mut self, _: usize, _: &[u8]) -> Option<(usize, T)> {
        None
    }

    fn learn(&mut self, _: usize, _: &Graph, _: serialization::Value, _: &[u8]) {}
}

struct TemplateShortcut<'t> {
    templates: &'t mut Templates,
    requests: &'t [AttributeRequest<'t>],
    /// The last attributes and their key: the next bean is mostly asked for the same.
    last: (&'t [&'t str], Key),
}

impl<'t> TemplateShortcut<'t> {
    fn new(templates: &'t mut Templates, requests: &'t [AttributeRequest<'t>]) -> Self {
        Self { templates, requests, last: (&[], Key::of(&[])) }
    }

    fn key(&mut self, call: usize) -> Option<Key> {
        let attributes = self.requests.get(call)?.attributes;
        if self.last.0 != attributes {
            self.last = (attributes, Key::of(attributes));
        }
        Some(self.last.1)
    }
}

impl Shortcut<Vec<NamedValue>> for TemplateShortcut<'_> {
    fn take(&mut self, call: usize, bytes: &[u8]) -> Option<(usize, Vec<NamedValue>)> {
        let key = self.key(call)?;
        self.templates.read(key, bytes)
    }

    fn learn(&mut self, call: usize, graph: &Graph, value: serialization::Value, bytes: &[u8]) {
        if let Some(key) = self.key(call) {
            self.templates.learn(key, graph, value, bytes);
        }
    }
}

/// What one call of a pipeline came to.
enum Answer<T> {
    Got(T),
    Threw(RemoteException),
    /// The reply could not be read, and the connection is gone with it.
    Unreadable,
    /// Nothing came in time; the connection was given up.
    TimedOut,
}

/// Calls of one pipeline that may time out before it is given up as a whole.
const MAX_TIMEOUTS: usize = 2;

impl Client {
    pub(super) async fn pipelined_infos(&mut self, names: &[&str]) -> Result<Vec<Option<MBeanInfo>>, Error> {
        let calls = names.iter().map(|name| [Argument::ObjectName(name), Argument::Null]);
        let calls: Vec<_> = calls.collect();
        let answers = self.pipelined(Method::MBEAN_INFO, &calls, mbean::mbean_info, &mut NoShortcut).await?;
        Ok(answers
            .into_iter()
            .map(|answer| match answer {
                Answer::Got(info) => Some(info),
                _ => None,
            })
            .collect())
    }

    pub(super) async fn pipelined_attributes(
        &mut self,
        requests: &[AttributeRequest<'_>],
    ) -> Result<Vec<BeanAnswer>, Error> {
        let calls: Vec<_> = requests
            .iter()
            .map(|request| {
                [Argument::ObjectName(request.bean), Argument::Strings(request.attributes), Argument::Null]
            })
            .collect();
        // Taken out for the time of the call; a call that is dropped loses what was learnt.
        let mut templates = std::mem::take(&mut self.templates);
        let mut shortcut = TemplateShortcut::new(&mut templates, requests);
        let answers = self.pipelined(Method::ATTRIBUTES, &calls, mbean::attribute_list, &mut shortcut).await;
        self.templates = templates;
        let answers = answers?;
        let mut results = Vec::with_capacity(answers.len());
        for (answer, request) in answers.into_iter().zip(requests) {
            results.push(match answer {
                Answer::Got(values) => BeanAnswer::Values(AttributeResult { values, unreadable: Vec::new() }),
                Answer::TimedOut => BeanAnswer::TimedOut,
                Answer::Threw(exception)
                    if exception.involves("javax.management.InstanceNotFoundException") =>
                {
                    BeanAnswer::Threw(exception)
                }
                // As a whole it failed, so perhaps only one attribute is at fault.
                Answer::Threw(_) | Answer::Unreadable => BeanAnswer::Values(self.one_by_one(request).await?),
            });
        }
        Ok(results)
    }

    async fn one_by_one(&mut self, request: &AttributeRequest<'_>) -> Result<AttributeResult, Error> {
        let calls: Vec<_> = request
            .attributes
            .iter()
            .map(|name| [Argument::ObjectName(request.bean), Argument::String(name), Argument::Null])
            .collect();
        let read = |graph: &Graph, value| Some(value::interpret(graph, value, &mut Budget::default()));
        let answers = self.pipelined(Method::ATTRIBUTE, &calls, read, &mut NoShortcut).await?;
        let mut result = AttributeResult::default();
        for (answer, name) in answers.into_iter().zip(request.attributes) {
            match answer {
                Answer::Got(value) => result.values.push(((*name).into(), value)),
                Answer::Threw(_) => {}
                Answer::Unreadable | Answer::TimedOut => result.unreadable.push((*name).to_owned()),
            }
        }
        Ok(result)
    }

    /// Calls `method` once for each element of `calls`. After a reply that cannot be read the rest is asked
    /// again over another connection; a session that is gone is opened again, once without any progress.
    async fn pipelined<T, const N: usize>(
        &mut self,
        method: Method,
        calls: &[[Argument<'_>; N]],
        read: impl Fn(&Graph, crate::jmx::serialization::Value) -> Option<T>,
        shortcut: &mut (dyn Shortcut<T> + Send),
    ) -> Result<Vec<Answer<T>>, Error> {
        let mut answers: Vec<Answer<T>> = Vec::with_capacity(calls.len());
        let mut lost_at = None;
        let mut timeouts = 0;
        while answers.len() < calls.len() {
            let mut connection = self.take_connection().await?;
            let mut requests = Vec::new();
            let mut count = 0;
            for arguments in &calls[answers.len()..] {
                encode_call(&mut requests, &self.session.object, method, arguments);
                count += 1;
                if requests.len() >= BATCH_BYTES {
                    break;
                }
            }
            let before = answers.len();
            let mut lost_session = None;
            let each = |event: Event<'_>| {
                if lost_session.is_some() {
                    return 0;
                }
                let (graph, outcome, raw) = match event {
                    Event::Start(bytes) => {
                        let Some((taken, value)) = shortcut.take(answers.len(), bytes) else { return 0 };
                        answers.push(Answer::Got(value));
                        return taken;
                    }
                    Event::Reply(graph, outcome, raw) => (graph, outcome, raw),
                };
                match outcome {
                    Outcome::Returned(value) => {
                        if let Some(raw) = raw {
                            shortcut.learn(answers.len(), graph, value, raw);
                        }
                        answers.push(read(graph, value).map_or(Answer::Unreadable, Answer::Got));
                    }
                    Outcome::Threw(value) => {
                        let exception = RemoteException::from_throwable(graph, value);
                        let error = Error::Thrown { address: self.address(), exception };
                        match error {
                            error if error.is_lost_session() => lost_session = Some(error),
                            Error::Thrown { exception, .. } => answers.push(Answer::Threw(exception)),
                            _ => {}
                        }
                    }
                }
                0
            };
            let result = connection.pipeline(method, &requests, count, each).await;
            let lost = match (result, lost_session) {
                (Ok(()), None) => {
                    self.connection = Some(connection);
                    continue;
                }
                (_, Some(error)) => error,
                (Err(error), None) if is_unreadable(&error) => {
                    // The socket is useless now, the session is not.
                    answers.push(Answer::Unreadable);
                    continue;
                }
                (Err(Error::Timeout { phase: Phase::Reply, .. }), None) if timeouts < MAX_TIMEOUTS => {
                    timeouts += 1;
                    answers.push(Answer::TimedOut);
                    continue;
                }
                (Err(error), None) => error,
            };
            if !lost.is_lost_session() || (lost_at == Some(answers.len()) && answers.len() == before) {
                return Err(lost);
            }
            lost_at = Some(answers.len());
            self.reopen(&lost).await?;
        }
        Ok(answers)
    }
}

/// Whether the reply itself is at fault rather than the connection or the peer.
fn is_unreadable(error: &Error) -> bool {
    matches!(
        error,
        Error::Protocol {
            source: jrmp::Error::Serialization(
                serialization::Error::Aborted { .. }
                    | serialization::Error::Unsupported { .. }
                    | serialization::Error::LimitExceeded { .. }
            ),
            ..
        }
    )
}
