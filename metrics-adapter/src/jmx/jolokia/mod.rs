//! The Jolokia protocol: management beans as JSON over HTTP, many reads in one request.
//!
//! Source: the protocol chapter of the Jolokia reference manual (versions 7 of Jolokia 1.x and 8 of 2.x). Only
//! `search`, `list` and `read` are used, which an agent with a read-only policy allows.

mod http;
mod json;
mod url;
mod value;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use self::http::{Connection, Dial};
use self::json::{Json, write_string};
pub use self::url::{AgentUrl, AgentUrlError};
use self::value::{Interpreter, Shape};
pub use self::value::{TableForm, TableHint};
use super::client::tls::TlsSettings;
use super::client::{AttributeRequest, AttributeResult, BeanAnswer, Credentials, Timeouts};
use super::mbean::{AttributeInfo, MBeanInfo, ObjectInstance};
use super::remote::RemoteException;
use super::value::Value;

/// Beans asked for in one request.
const BEANS_PER_REQUEST: usize = 250;

/// What a session needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// The agent.
    pub url: AgentUrl,
    /// Sent as HTTP basic authentication.
    pub credentials: Option<Credentials>,
    /// Trust and identity; needed for an `https` address.
    pub tls: Option<Arc<TlsSettings>>,
    /// Waiting times; `reply` is for a whole answer.
    pub timeouts: Timeouts,
    /// Places of tables that the protocol does not tell from composite values.
    pub tables: Vec<TableHint>,
}

/// A failed exchange with an agent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The network failed, or the peer closed the connection.
    #[error("{address}: {what} failed")]
    Io {
        /// `host:port`
        address: String,
        /// What was going on.
        what: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The agent did not answer in time.
    #[error("{address}: {what} took longer than {after:?}")]
    Timeout {
        /// `host:port`
        address: String,
        /// What was going on.
        what: &'static str,
        /// The limit.
        after: Duration,
    },
    /// An answer other than 200.
    #[error("{address}: the agent answered with HTTP status {status}{}", hint(*status, *with_credentials))]
    Status {
        /// `host:port`
        address: String,
        /// HTTP status.
        status: u16,
        /// Whether credentials were sent.
        with_credentials: bool,
    },
    /// The answer is not what the protocol says.
    #[error("{address}: not an answer of a Jolokia agent: {why}")]
    NotJolokia {
        /// `host:port`
        address: String,
        /// What is wrong.
        why: String,
    },
    /// The agent refuses an operation that is needed.
    #[error("{address}: the agent refuses `{operation}`: {reason}")]
    Refused {
        /// `host:port`
        address: String,
        /// `search`, `list` or `read`.
        operation: &'static str,
        /// The agent's words.
        reason: String,
    },
}

fn hint(status: u16, with_credentials: bool) -> &'static str {
    match (status, with_credentials) {
        (401, false) => ": credentials are needed",
        (401, true) => ": the credentials were refused",
        (403, _) => ": its access policy refuses this client",
        (404, _) => ": is the path right (usually /jolokia/)?",
        _ => "",
    }
}

/// Shapes of the attributes of a bean that are not [`Shape::Any`].
type Shapes = Vec<(String, Shape)>;

/// A session with one agent. Dropping a call drops the connection; the next one opens another.
#[derive(Debug)]
pub struct Client {
    dial: Dial,
    tables: Vec<TableHint>,
    connection: Option<Connection>,
    shapes: HashMap<String, Shapes>,
}

impl Client {
    /// Opens a connection and asks the agent for its version.
    ///
    /// # Errors
    /// The agent cannot be reached, is none, or refuses the credentials.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let Options { url, credentials, tls, timeouts, tables } = options;
        let dial = Dial { url, credentials, tls, timeouts };
        let mut client = Self { dial, tables, connection: None, shapes: HashMap::new() };
        let answers = client.ask("version", vec![r#"{"type":"version"}"#.to_owned()]).await?;
        match answers.first().and_then(|answer| answer.value.get("protocol")) {
            Some(_) => Ok(client),
            None => Err(client.not_jolokia("it names no protocol version")),
        }
    }

    /// Changes how long an answer may take.
    pub fn set_reply_timeout(&mut self, limit: Duration) {
        self.dial.set_reply_timeout(limit);
    }

    /// The names that match any of the patterns.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn query(&mut self, patterns: &[&str]) -> Result<Vec<ObjectInstance>, Error> {
        let request = |pattern: &&str| {
            let mut text = r#"{"type":"search","config":{"canonicalNaming":"false"},"mbean":"#.to_owned();
            write_string(&mut text, pattern);
            text.push('}');
            text
        };
        let answers = self.ask("search", patterns.iter().map(request).collect()).await?;
        let mut seen = std::collections::HashSet::new();
        let mut found = Vec::new();
        for answer in answers {
            if let Some(reason) = answer.error {
                return Err(Error::Refused {
                    address: self.dial.url.authority(),
                    operation: "search",
                    reason,
                });
            }
            let names = answer.value.elements().iter().filter_map(Json::text);
            let new = names.filter(|name| seen.insert((*name).to_owned()));
            found.extend(new.map(|name| ObjectInstance { name: name.into(), class: Arc::default() }));
        }
        let known = |name: &String, _: &mut Shapes| seen.contains(name);
        self.shapes.retain(known);
        Ok(found)
    }

    /// What each bean says about itself; `None` for beans that have gone.
    ///
    /// # Errors
    /// The agent cannot be asked at all.
    pub async fn mbean_infos(&mut self, names: &[&str]) -> Result<Vec<Option<MBeanInfo>>, Error> {
        let mut infos = Vec::with_capacity(names.len());
        for names in names.chunks(BEANS_PER_REQUEST) {
            let answers = self.ask("list", names.iter().map(|name| list_request(name)).collect()).await?;
            for (name, answer) in names.iter().zip(answers) {
                let info = answer.error.is_none().then(|| description(&answer.value));
                if let Some(info) = &info {
                    self.remember(name, info);
                }
                infos.push(info);
            }
        }
        Ok(infos)
    }

    fn remember(&mut self, name: &str, info: &MBeanInfo) {
        let shapes = info.attributes.iter().map(|info| (info.name.clone(), Shape::of(&info.class)));
        self.shapes.insert(name.to_owned(), shapes.filter(|(_, shape)| *shape != Shape::Any).collect());
    }

    /// Reads attributes in as few requests as possible. Attributes that cannot be read are missing.
    ///
    /// # Errors
    /// The agent cannot be asked at all.
    pub async fn attributes(&mut self, requests: &[AttributeRequest<'_>]) -> Result<Vec<BeanAnswer>, Error> {
        let mut results = Vec::with_capacity(requests.len());
        for requests in requests.chunks(BEANS_PER_REQUEST) {
            self.read(requests, &mut results).await?;
        }
        Ok(results)
    }

    async fn read(
        &mut self,
        requests: &[AttributeRequest<'_>],
        results: &mut Vec<BeanAnswer>,
    ) -> Result<(), Error> {
        let mut bodies: Vec<String> = Vec::with_capacity(requests.len());
        let mut dates: Vec<(usize, &str)> = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            let is_date = |name: &&str| self.shape(request.bean, name) == Shape::Date;
            dates.extend(
                request.attributes.iter().copied().filter(|name| is_date(name)).map(|name| (index, name)),
            );
            let others: Vec<&str> =
                request.attributes.iter().copied().filter(|name| !is_date(name)).collect();
            bodies.push(read_request(request.bean, &others, None));
        }
        // Milliseconds are lost in the text of a date, but not in its `time`.
        bodies.extend(
            dates.iter().map(|(index, name)| read_request(requests[*index].bean, &[name], Some("time"))),
        );
        let mut answers = self.ask("read", bodies).await?;
        let times = answers.split_off(requests.len());
        let first = results.len();
        for (request, answer) in requests.iter().zip(answers) {
            let result = match answer.error {
                None => self.values(request, &answer.value),
                Some(_) if answer.gone => {
                    let class = "javax.management.InstanceNotFoundException".to_owned();
                    let exception =
                        RemoteException { class: class.clone(), message: String::new(), chain: vec![class] };
                    results.push(BeanAnswer::Threw(exception));
                    continue;
                }
                // As a whole it failed, so perhaps only one attribute is at fault.
                Some(_) => self.one_by_one(request).await?,
            };
            results.push(BeanAnswer::Values(result));
        }
        for ((index, name), answer) in dates.into_iter().zip(times) {
            if let (BeanAnswer::Values(result), Json::Number(text)) =
                (&mut results[first + index], &answer.value)
                && let Ok(milliseconds) = text.parse()
            {
                result.values.push((name.into(), Value::Date(milliseconds)));
            }
        }
        Ok(())
    }

    async fn one_by_one(&mut self, request: &AttributeRequest<'_>) -> Result<AttributeResult, Error> {
        let mut result = AttributeResult::default();
        for names in request.attributes.chunks(BEANS_PER_REQUEST) {
            let bodies = names.iter().map(|name| read_request(request.bean, &[name], None)).collect();
            for answer in self.ask("read", bodies).await? {
                result.values.extend(self.values(request, &answer.value).values);
            }
        }
        Ok(result)
    }

    fn values(&self, request: &AttributeRequest<'_>, value: &Json) -> AttributeResult {
        let interpreter = Interpreter {
            bean: request.bean,
            name: if self.tables.is_empty() { None } else { request.bean.parse().ok() },
            hints: &self.tables,
        };
        let values = value.members().iter().filter(|(name, json)| {
            // In place of a value that cannot be read the agent sends its complaint.
            let complaint = json.text().is_some_and(|text| text.starts_with("ERROR: "));
            !complaint && request.attributes.contains(&name.as_str())
        });
        let values = values.map(|(name, json)| {
            (name.as_str().into(), interpreter.attribute(name, json, self.shape(request.bean, name)))
        });
        AttributeResult { values: values.collect(), unreadable: Vec::new() }
    }

    fn shape(&self, bean: &str, attribute: &str) -> Shape {
        let shapes = self.shapes.get(bean);
        let found = shapes.and_then(|shapes| shapes.iter().find(|(name, _)| name == attribute));
        found.map_or(Shape::Any, |(_, shape)| *shape)
    }

    fn not_jolokia(&self, why: impl Into<String>) -> Error {
        Error::NotJolokia { address: self.dial.url.authority(), why: why.into() }
    }

    /// Sends requests together and sorts the answers out; a connection that was closed meanwhile is replaced.
    async fn ask(&mut self, operation: &'static str, requests: Vec<String>) -> Result<Vec<Answer>, Error> {
        let body = format!("[{}]", requests.join(","));
        let text = loop {
            let kept = self.connection.take().filter(Connection::is_open);
            let fresh = kept.is_none();
            let mut connection = match kept {
                Some(connection) => connection,
                None => Connection::open(&self.dial).await?,
            };
            match connection.post(&self.dial, body.clone()).await {
                Ok(text) => {
                    self.connection = Some(connection);
                    break text;
                }
                // Reading twice does no harm, and servers close idle connections when they like.
                Err(Error::Io { .. }) if !fresh => {}
                Err(error) => return Err(error),
            }
        };
        let json = Json::parse(&text).map_err(|error| self.not_jolokia(error.to_string()))?;
        let answers: Vec<Answer> = match json {
            Json::Array(items) => items.into_iter().map(Answer::from).collect(),
            single => vec![Answer::from(single)],
        };
        // A refusal of everything comes as a single answer.
        if let [Answer { error: Some(reason), .. }] = answers.as_slice()
            && requests.len() != 1
        {
            let reason = reason.clone();
            return Err(Error::Refused { address: self.dial.url.authority(), operation, reason });
        }
        if answers.len() != requests.len() {
            let why = format!("{} answers to {} requests", answers.len(), requests.len());
            return Err(self.not_jolokia(why));
        }
        Ok(answers)
    }
}

/// One answer of a bulk.
struct Answer {
    value: Json,
    /// The agent's words when its status is not 200.
    error: Option<String>,
    gone: bool,
}

impl From<Json> for Answer {
    fn from(json: Json) -> Self {
        let text = |name| json.get(name).and_then(Json::text).unwrap_or_default();
        let good = matches!(json.get("status"), Some(Json::Number(status)) if status == "200");
        let error = (!good).then(|| text("error").to_owned());
        let gone = text("error_type").ends_with("InstanceNotFoundException");
        let value = match json {
            Json::Object(members) => members.into_iter().find(|(name, _)| name == "value"),
            _ => None,
        };
        Self { value: value.map_or(Json::Null, |(_, value)| value), error, gone }
    }
}

fn read_request(bean: &str, attributes: &[&str], path: Option<&str>) -> String {
    let mut text = String::with_capacity(bean.len() + 24 * attributes.len() + 128);
    text.push_str(r#"{"type":"read","config":{"ignoreErrors":"true","canonicalNaming":"false","#);
    // Enough for tables in composite values; agents unfold objects of any class.
    text.push_str(r#""includeRequest":"false","maxDepth":"8"},"mbean":"#);
    write_string(&mut text, bean);
    match (path, attributes) {
        (Some(path), [attribute]) => {
            text.push_str(r#","attribute":"#);
            write_string(&mut text, attribute);
            let _ = write!(text, r#","path":"{path}""#);
        }
        _ => {
            text.push_str(r#","attribute":["#);
            for (index, attribute) in attributes.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                write_string(&mut text, attribute);
            }
            text.push(']');
        }
    }
    text.push('}');
    text
}

/// Asks for the description of one bean: its name is a path of two parts.
fn list_request(bean: &str) -> String {
    let escape = |part: &str| part.replace('!', "!!").replace('/', "!/");
    let (domain, properties) = bean.split_once(':').unwrap_or((bean, ""));
    let mut text =
        r#"{"type":"list","config":{"canonicalNaming":"false","includeRequest":"false"},"path":"#.to_owned();
    write_string(&mut text, &format!("{}/{}", escape(domain), escape(properties)));
    text.push('}');
    text
}

fn description(json: &Json) -> MBeanInfo {
    let text = |json: &Json, name| json.get(name).and_then(Json::text).unwrap_or_default().to_owned();
    let attributes = json.get("attr").map_or(&[][..], Json::members);
    let attributes = attributes.iter().map(|(name, attribute)| {
        let class = text(attribute, "type");
        AttributeInfo {
            name: name.clone(),
            description: text(attribute, "desc"),
            // The protocol does not tell, and reading one that is only for writing does no harm. But agents read
            // an atomic number by calling all its getters, `getAndIncrement` among them.
            readable: !class.starts_with("java.util.concurrent.atomic."),
            class,
        }
    });
    MBeanInfo {
        class: text(json, "class"),
        description: text(json, "desc"),
        immutable: false,
        attributes: attributes.collect(),
    }
}

/// Reads any answer's text under every declared type, for the fuzz target.
#[cfg(fuzzing)]
pub fn fuzz(text: &str) {
    let Ok(json) = json::Json::parse(text) else { return };
    let bean: crate::jmx::object_name::ObjectName = "a:type=b".parse().expect("a constant name");
    let hints = [TableForm::Map, TableForm::Rows, TableForm::Composite].map(|form| TableHint {
        bean: bean.clone(),
        path: vec!["A".to_owned(), "*".to_owned()],
        form,
    });
    for hint in &hints {
        let interpreter =
            Interpreter { bean: "a:type=b", name: Some(bean.clone()), hints: std::slice::from_ref(hint) };
        for class in [
            "long",
            "float",
            "java.math.BigDecimal",
            "java.util.Date",
            "javax.management.openmbean.CompositeData",
            "javax.management.openmbean.TabularData",
            "java.lang.Object",
            "x.Y",
        ] {
            let value = interpreter.attribute("A", &json, Shape::of(class));
            crate::rule::leaf::walk(&bean, "A", "", &value, &mut |leaf| leaf.value.write(&mut String::new()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests() {
        assert!(list_request("Catalina:a=//h/x!").contains(r#""path":"Catalina/a=!/!/h!/x!!""#));
        let read = read_request("d:n=\"q\"", &["A", "B"], None);
        assert!(read.ends_with(r#""mbean":"d:n=\"q\"","attribute":["A","B"]}"#), "{read}");
        assert!(Json::parse(&read).is_ok() && Json::parse(&list_request("d")).is_ok());
        assert!(read_request("d:a=b", &["W"], Some("time")).ends_with(r#""attribute":"W","path":"time"}"#));
    }

    proptest! {
        #[test]
        fn any_answer_is_understood(
            json in r#"\{("(status|error|error_type|value)":(200|404|"x"|null|\[\]|\{"attr":\{"A":\{"type":"int"\}\}\}),?){0,4}\}"#
        ) {
            let Ok(json) = Json::parse(&json.replace(",}", "}")) else { return Ok(()) };
            let answer = Answer::from(json);
            let _ = description(&answer.value);
        }
    }
}
