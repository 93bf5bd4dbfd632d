//! The tokio driver: one connection to one JVM, kept open between reads.
//!
//! The client takes no part in distributed garbage collection: the server keeps the session alive by itself
//! as long as something is read every two minutes (its idle timeout), and a session that is gone all the
//! same is opened again once.

mod connection;
mod error;
mod pipeline;
mod template;
pub mod tls;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use self::connection::{Connection, Dial, Repeated};
pub use self::error::{Error, Phase};
pub use self::pipeline::{AttributeRequest, AttributeResult, BeanAnswer, NamedValue};
use self::template::Templates;
use self::tls::TlsSettings;
use super::jrmp::{Argument, Method, ObjectId, Outcome, encode_call};
use super::mbean::{self, MBeanInfo, ObjectInstance};
use super::remote::{RemoteException, RemoteReference};
use super::serialization::{Graph, Limits, Value};
use super::service_url::RegistryAddress;

/// How long the client waits for what.
///
/// ```
/// # use metrics_adapter::jmx::client::Options;
/// # let mut options = Options::new("localhost", 9010);
///
/// options.timeouts.reply = std::time::Duration::from_secs(2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a TCP connection.
    pub connect: Duration,
    /// For the TLS and RMI handshakes.
    pub handshake: Duration,
    /// For the next bytes of a reply.
    pub reply: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            reply: Duration::from_secs(20),
        }
    }
}

/// Which host name of the stub is followed.
///
/// ```
/// # use metrics_adapter::jmx::client::Options;
/// # let mut options = Options::new("localhost", 9010);
///
/// options.stub_host = metrics_adapter::jmx::client::StubHost::Followed;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StubHost {
    /// None: the configured host is connected to again, on the stub's port.
    #[default]
    Ignored,
    /// The one in the stub, as a Java client does.
    Followed,
}

/// Name and password.
///
/// ```
/// # use metrics_adapter::jmx::client::Options;
/// # let mut options = Options::new("localhost", 9010);
/// use metrics_adapter::jmx::client::Credentials;
///
/// options.credentials = Some(Credentials { username: "monitor".into(), password: "hush".to_owned().into() });
/// ```
#[derive(Clone, Debug)]
pub struct Credentials {
    /// User name of the server's password file.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

/// Whether the registry port speaks TLS.
///
/// ```
/// # use metrics_adapter::jmx::client::Options;
/// # let mut options = Options::new("localhost", 9010);
///
/// options.registry_tls = metrics_adapter::jmx::client::RegistryTls::Plain;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistryTls {
    /// TLS when TLS settings are given, otherwise plain; the other one is tried once on a mismatch.
    #[default]
    Auto,
    /// Never.
    Plain,
    /// Always.
    Tls,
}

/// Everything that a session needs to know.
///
/// ```
/// use metrics_adapter::jmx::client::Options;
///
/// let mut options = Options::new("localhost", 9010);
/// options.stub_port = Some(19010); // forwarded to the JVM's
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// The registry and the name in it.
    pub registry: RegistryAddress,
    /// The connector server, where it is known beforehand; the registry is not asked then.
    pub stub: Option<RemoteReference>,
    /// Credentials, where the server wants them.
    pub credentials: Option<Credentials>,
    /// Trust and identity for TLS connections.
    pub tls: Option<Arc<TlsSettings>>,
    /// Whether the registry itself speaks TLS.
    pub registry_tls: RegistryTls,
    /// Which host the stub's port is looked for on.
    pub stub_host: StubHost,
    /// Replaces the stub's port, for forwarded ports.
    pub stub_port: Option<u16>,
    /// Waiting times.
    pub timeouts: Timeouts,
    /// Bounds on each reply.
    pub limits: Limits,
}

impl Options {
    /// A plain session without credentials.
    ///
    /// ```
    /// let options = metrics_adapter::jmx::client::Options::new("localhost", 9010);
    /// assert_eq!(options.registry.name, "jmxrmi");
    /// ```
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            registry: RegistryAddress::new(host, port),
            stub: None,
            credentials: None,
            tls: None,
            registry_tls: RegistryTls::default(),
            stub_host: StubHost::default(),
            stub_port: None,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        }
    }
}

/// Bytes of the lists of beans that one client remembers.
const MAX_LISTED_BYTES: usize = 1 << 20;

/// An answer to `queryMBeans`. It mostly comes again as it was, and then costs a comparison.
#[derive(Debug)]
struct Listing {
    reply: Vec<u8>,
    instances: Vec<ObjectInstance>,
}

/// A session with one JVM.
///
/// Its methods are cancel safe: a dropped call drops the connection, and the next call opens another.
///
/// ```no_run
/// use metrics_adapter::jmx::client::{AttributeRequest, Client, Options};
///
/// # async fn example() -> Result<(), metrics_adapter::jmx::client::Error> {
/// let mut client = Client::connect(Options::new("localhost", 9010)).await?;
/// for name in client.query_names(Some("java.lang:type=GarbageCollector,*")).await? {
///     let request = AttributeRequest { bean: &name, attributes: &["CollectionCount"] };
///     println!("{name} {:?}", client.attributes(&[request]).await?);
/// }
/// client.close().await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Client {
    options: Options,
    session: RemoteReference,
    connection: Option<Connection>,
    templates: Templates,
    /// By pattern.
    listings: HashMap<String, Listing>,
    reconnects: u64,
}

impl Client {
    /// Looks the connector server up and opens a session.
    ///
    /// # Errors
    /// The registry or the server cannot be reached, is no JMX port, or refuses the credentials.
    ///
    /// ```no_run
    /// use metrics_adapter::jmx::client::{Client, Options};
    ///
    /// # async fn example() -> Result<(), metrics_adapter::jmx::client::Error> {
    /// let client = Client::connect(Options::new("localhost", 9010)).await?;
    /// # Ok(()) }
    /// ```
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let (session, connection) = open(&options).await?;
        Ok(Self {
            options,
            session,
            connection: Some(connection),
            templates: Templates::default(),
            listings: HashMap::new(),
            reconnects: 0,
        })
    }

    /// Another client of the same session, over a connection of its own: the two may read at the same time. Closing
    /// either ends the session for both, dropping one does not.
    ///
    /// ```no_run
    /// # use metrics_adapter::jmx::client::{AttributeRequest, Client, Options};
    /// # async fn example() -> Result<(), metrics_adapter::jmx::client::Error> {
    /// # let mut client = Client::connect(Options::new("localhost", 9010)).await?;
    /// let mut sibling = client.sibling();
    /// let (beans, names) = tokio::join!(client.mbean_count(), sibling.query_names(None));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self {
            options: self.options.clone(),
            session: self.session.clone(),
            connection: None,
            templates: Templates::default(),
            listings: HashMap::new(),
            reconnects: 0,
        }
    }

    /// How often a lost connection was replaced.
    ///
    /// ```no_run
    /// # use metrics_adapter::jmx::client::{AttributeRequest, Client, Options};
    /// # async fn example() -> Result<(), metrics_adapter::jmx::client::Error> {
    /// # let mut client = Client::connect(Options::new("localhost", 9010)).await?;
    /// println!("reconnected {} times", client.reconnects());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// Changes how long the client waits for the next bytes of a reply, on this and later connections.
    ///
    /// ```no_run
    /// # use metrics_adapter::jmx::client::{AttributeRequest, Client, Options};
    /// # async fn example() -> Result<(), metrics_adapter::jmx::client::Error> {
    /// # let mut client = Client::connect(Options::new("localhost", 9010)).await?;
    /// client.set_reply_timeout(std::time::Duration::from_millis(500));
    /// # Ok(()) }
    /// ```
    pub fn set_reply_timeout(&mut self, limit: Duration) {
        self.options.timeouts.reply = limit;
        if let Some(connection) = &mut self.connection {
            connection.set_reply_timeout(limit);
        }
    }

    /// The beans that match `pattern`, or all of them.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// ```no_run
    /// # use metrics_adapter::jmx::client::{AttributeRequest, Client, Options};
    /// # async fn example() -> Result<(), metrics_adapter::jmx::client::Error> {
    /// # let mut client = Client::connect(Options::new("localhost", 9010)).await?;
    /// for bean in client.query_mbeans(Some("java.lang:*")).await? {
    ///     println!("{} is a {}", bean.name, bean.class);
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn query_mbeans(&mut self, pattern: Option<&str>) -> Result<Vec<ObjectInstance>, Error> {
        let arguments =
            [pattern.map_or(Argument::Null, Argument::ObjectName), Argument::Null, Argument::Null];
        let known = self.listings.remove(pattern.unwrap_or_default());
        let reply = known.as_ref().map_or(&[][..], |known| &known.reply);
        let listed: usize = self.listings.values().map(|listing| listing.reply.len()).sum();
        let mut connection = self.take_connection().await?;
        let mut request = Vec::new();
        encode_call(&mut request, &self.session.object, Method::QUERY_MBEANS, &arguments);
        let most = MAX_LISTED_BYTES.saturating_sub(listed);
        let error = match connection.exchange_again(Method::QUERY_MBEANS, &request, reply, most).await {
            Ok(Repeated::Same) => {
                self.connection = Some(connection);
                let Some(known) = known else { return Err(self.unexpected()) };
                let instances = known.instances.clone();
                self.listings.insert(pattern.unwrap_or_default().to_owned(), known);
                return Ok(instances);
            }
            Ok(Repeated::Other(Outcome::Returned(value), reply)) => {
                let instances = mbean::object_instances(connection.graph(), value);
                self.connection = Some(connection);
                let instances = instances.ok_or_else(|| self.unexpected())?;
                if let Some(reply) = reply {
                    let listing = Listing { reply, instances: instances.clone() };
                    self.listings.insert(pattern.unwrap_or_default().to_owned(), listing);
                }
                return Ok(instances);
            }
            Ok(Repeated::Other(Outcome::Threw(value), _)) => {
                let exception = RemoteException::from_throwable(connection.graph(), value);
                self.thrown(connection, exception)
            }
            Err(error) => error,
        };
        if !error.is_lost_session() {
            return Err(error);
        }
        self.reopen(&error).await?;
        self.call(Method::QUERY_MBEANS, &arguments, mbean::object_instances).await
    }

    /// The names that match `pattern`, or all of them.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// ```no_run
    /// # use metrics_adapter::jmx::client::{AttributeRequest, Client, Options};
    /// # async fn example() -> Result<(), metrics_adapter::jmx::client::Error> {
    /// # let mut client = Client::connect(Options::new("localhost", 9010)).await?;
    /// let names = client.query_names(None).await?;
    /// println!("{} beans", names.len());
    /// # Ok(()) }
    /// ```
    pub async fn query_names(&mut self, pattern: Option<&str>) -> Result<Vec<String>, Error> {
        let arguments =
            [pattern.map_or(Argument::Null, Argument::ObjectName), Argument::Null, Argument::Null];
        self.call(Method::QUERY_NAMES, &arguments, mbean::object_names).await
    }

    /// The names that match `pattern`, or any, of beans whose object is of this Java class or interface. A standard
    /// bean is what its class says; one that describes itself, in whatever wrapper, is a
    /// `javax.management.DynamicMBean`.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// ```no_run
    /// # use metrics_adapter::jmx::client::{AttributeRequest, Client, Options};
    /// # async fn example() -> Result<(), metrics_adapter::jmx::client::Error> {
    /// # let mut client = Client::connect(Options::new("localhost", 9010)).await?;
    /// let names = client.query_names_of(None, "javax.management.DynamicMBean").await?;
    /// println!("{} beans describe themselves", names.len());
    /// # Ok(()) }
    /// ```
    pub async fn query_names_of(&mut self, pattern: Option<&str>, class: &str) -> Result<Vec<String>, Error> {
        let pattern = pattern.map_or(Argument::Null, Argument::ObjectName);
        let arguments = [pattern, Argument::InstanceOf(class), Argument::Null];
        self.call(Method::QUERY_NAMES, &arguments, mbean::object_names).await
    }

    /// The number of registered beans; the cheapest call that keeps a session from idling out.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// ```no_run
    /// # use metrics_adapter::jmx::client::{AttributeRequest, Client, Options};
    /// # async fn example() -> Result<(), metrics_adapter::jmx::client::Error> {
    /// # let mut client = Client::connect(Options::new("localhost", 9010)).await?;
    /// println!("{} beans", client.mbean_count().await?);
    /// # Ok(()) }
    /// ```
    pub async fn mbean_count(&mut self) -> Result<u32, Error> {
        self.call(Method::MBEAN_COUNT, &[Argument::Null], |graph, value| {
            match graph.object(value)?.field("value") {
                Value::Int(count) => u32::try_from(count).ok(),
                _ => None,
            }
        })
        .await
    }

    /// What each bean says about itself; `None` for beans that have gone or cannot say it.
    ///
    /// # Errors
    /// The connection failed, so that none of the answers can be had.
    ///
    /// ```no_run
    /// # use metrics_adapter::jmx::client::{AttributeRequest, Client, Options};
    /// # async fn example() -> Result<(), metrics_adapter::jmx::client::Error> {
    /// # let mut client = Client::connect(Options::new("localhost", 9010)).await?;
    /// for info in client.mbean_infos(&["java.lang:type=Memory"]).await?.into_iter().flatten() {
    ///     for attribute in info.attributes.iter().filter(|attribute| attribute.readable) {
    ///         println!("{} {}", attribute.class, attribute.name);
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn mbean_infos(&mut self, names: &[&str]) -> Result<Vec<Option<MBeanInfo>>, Error> {
        self.pipelined_infos(names).await
    }

    /// Reads attributes, all requests in one pipeline.
    ///
    /// Attributes whose getter throws are missing from the answer. An attribute that the JVM cannot serialize
    /// makes it drop the connection: the client then reads that bean attribute by attribute, and names the
    /// ones to leave out from now on in [`AttributeResult::unreadable`].
    ///
    /// # Errors
    /// The connection failed, so that none of the answers can be had.
    ///
    /// ```no_run
    /// # use metrics_adapter::jmx::client::{AttributeRequest, Client, Options};
    /// # async fn example() -> Result<(), metrics_adapter::jmx::client::Error> {
    /// # let mut client = Client::connect(Options::new("localhost", 9010)).await?;
    /// let heap = AttributeRequest { bean: "java.lang:type=Memory", attributes: &["HeapMemoryUsage"] };
    /// let threads = AttributeRequest { bean: "java.lang:type=Threading", attributes: &["ThreadCount"] };
    /// for answer in client.attributes(&[heap, threads]).await? {
    ///     for (name, value) in answer.values() {
    ///         println!("{name} = {value:?}");
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn attributes(&mut self, requests: &[AttributeRequest<'_>]) -> Result<Vec<BeanAnswer>, Error> {
        self.pipelined_attributes(requests).await
    }

    /// Ends the session on the server. Failing to do so is of no consequence and not reported.
    ///
    /// ```no_run
    /// # use metrics_adapter::jmx::client::{AttributeRequest, Client, Options};
    /// # async fn example() -> Result<(), metrics_adapter::jmx::client::Error> {
    /// # let mut client = Client::connect(Options::new("localhost", 9010)).await?;
    /// client.close().await;
    /// # Ok(()) }
    /// ```
    pub async fn close(mut self) {
        if let Some(mut connection) = self.connection.take() {
            let mut request = Vec::new();
            encode_call(&mut request, &self.session.object, Method::CLOSE, &[]);
            let _ = connection.exchange(Method::CLOSE, &request).await;
        }
    }

    async fn call<T>(
        &mut self,
        method: Method,
        arguments: &[Argument<'_>],
        read: impl Fn(&Graph, Value) -> Option<T>,
    ) -> Result<T, Error> {
        let mut retried = false;
        loop {
            let mut connection = self.take_connection().await?;
            let mut request = Vec::new();
            encode_call(&mut request, &self.session.object, method, arguments);
            let outcome = connection.exchange(method, &request).await;
            let error = match outcome {
                Ok(Outcome::Returned(value)) => {
                    let result = read(connection.graph(), value).ok_or_else(|| self.unexpected());
                    self.connection = Some(connection);
                    return result;
                }
                Ok(Outcome::Threw(value)) => {
                    let exception = RemoteException::from_throwable(connection.graph(), value);
                    self.thrown(connection, exception)
                }
                Err(error) => error,
            };
            if retried || !error.is_lost_session() {
                return Err(error);
            }
            retried = true;
            self.reopen(&error).await?;
        }
    }

    fn unexpected(&self) -> Error {
        Error::Unexpected { address: self.address() }
    }

    /// Keeps the connection unless the exception says that its session has ended.
    fn thrown(&mut self, connection: Connection, exception: RemoteException) -> Error {
        let error = Error::Thrown { address: self.address(), exception };
        if !error.is_lost_session() {
            self.connection = Some(connection);
        }
        error
    }

    fn address(&self) -> String {
        format!("{}:{}", self.options.registry.host, self.options.registry.port)
    }

    /// The open connection, or another one to the same session.
    async fn take_connection(&mut self) -> Result<Connection, Error> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => match Connection::open(&dial(&self.options, &self.session)?).await {
                Ok(connection) => Ok(connection),
                Err(error) => {
                    self.reopen(&error).await?;
                    self.connection.take().ok_or(error)
                }
            },
        }
    }

    /// Opens another session in place of one that is gone.
    async fn reopen(&mut self, reason: &Error) -> Result<(), Error> {
        tracing::debug!(target = self.address(), %reason, "opening the JMX session again");
        self.connection = None;
        let (session, connection) = open(&self.options).await?;
        self.session = session;
        self.connection = Some(connection);
        self.reconnects += 1;
        Ok(())
    }
}

/// Where the object of a stub is looked for.
fn dial(options: &Options, reference: &RemoteReference) -> Result<Dial, Error> {
    let host = match options.stub_host {
        StubHost::Ignored => &options.registry.host,
        StubHost::Followed => &reference.host,
    };
    let mut dial = Dial {
        host: host.clone(),
        port: options.stub_port.unwrap_or(reference.port),
        tls: None,
        timeouts: options.timeouts,
        limits: options.limits,
    };
    match (&options.tls, reference.tls) {
        (None, true) => return Err(Error::TlsNotConfigured { address: dial.address() }),
        (Some(_), false) => return Err(Error::PlainStub { address: dial.address() }),
        (tls, _) => dial.tls.clone_from(tls),
    }
    Ok(dial)
}

async fn open(options: &Options) -> Result<(RemoteReference, Connection), Error> {
    let server = match &options.stub {
        Some(stub) => stub.clone(),
        None => lookup(options).await?,
    };
    let target = dial(options, &server)?;
    let mut connection = Connection::open(&target).await?;
    let mut request = Vec::new();
    let credentials = options.credentials.as_ref();
    let pair = credentials.map(|pair| [pair.username.as_str(), pair.password.expose_secret()]);
    let argument = pair.as_ref().map_or(Argument::Null, |pair| Argument::Strings(pair));
    encode_call(&mut request, &server.object, Method::NEW_CLIENT, &[argument]);
    let outcome = connection.exchange(Method::NEW_CLIENT, &request).await;
    let address = target.address();
    let session =
        stub(&connection, outcome?, &address).map_err(|error| refused(error, credentials.is_some()))?;
    if session.port == server.port && session.tls == server.tls {
        return Ok((session, connection));
    }
    let connection = Connection::open(&dial(options, &session)?).await?;
    Ok((session, connection))
}

fn refused(error: Error, with_credentials: bool) -> Error {
    match error {
        Error::Thrown { address, exception } if exception.involves("java.lang.SecurityException") => {
            let message = exception.message;
            Error::Authentication { address, message, with_credentials }
        }
        other => other,
    }
}

/// Reads the stub out of a reply.
fn stub(connection: &Connection, outcome: Outcome, address: &str) -> Result<RemoteReference, Error> {
    let graph = connection.graph();
    match outcome {
        Outcome::Returned(value) => RemoteReference::from_stub(graph, value)
            .map_err(|source| Error::Stub { address: address.to_owned(), source }),
        Outcome::Threw(value) => {
            let exception = RemoteException::from_throwable(graph, value);
            Err(Error::Thrown { address: address.to_owned(), exception })
        }
    }
}

/// Asks the registry; on a TLS mismatch in automatic mode, asks once more the other way.
async fn lookup(options: &Options) -> Result<RemoteReference, Error> {
    let tls = match options.registry_tls {
        RegistryTls::Plain => false,
        RegistryTls::Tls => true,
        RegistryTls::Auto => options.tls.is_some(),
    };
    match lookup_over(options, tls).await {
        Err(error)
            if error.is_tls_mismatch()
                && options.registry_tls == RegistryTls::Auto
                && options.tls.is_some() =>
        {
            lookup_over(options, !tls).await.map_err(|_| error)
        }
        result => result,
    }
}

async fn lookup_over(options: &Options, tls: bool) -> Result<RemoteReference, Error> {
    let registry = &options.registry;
    let dial = Dial {
        host: registry.host.clone(),
        port: registry.port,
        tls: if tls { options.tls.clone() } else { None },
        timeouts: options.timeouts,
        limits: options.limits,
    };
    let mut connection = Connection::open(&dial).await?;
    let mut request = Vec::new();
    encode_call(&mut request, &ObjectId::REGISTRY, Method::LOOKUP, &[Argument::String(&registry.name)]);
    let outcome = connection.exchange(Method::LOOKUP, &request).await?;
    let address = dial.address();
    stub(&connection, outcome, &address).map_err(|error| match error {
        Error::Thrown { exception, .. } if exception.involves("java.rmi.NotBoundException") => {
            Error::NotBound { address, name: registry.name.clone() }
        }
        Error::Thrown { exception, .. } if exception.involves("java.rmi.NoSuchObjectException") => {
            Error::NotARegistry { address }
        }
        other => other,
    })
}
