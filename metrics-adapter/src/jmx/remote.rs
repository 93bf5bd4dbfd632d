//! Remote references inside stubs, and exceptions that calls throw.

use thiserror::Error;

use super::jrmp::ObjectId;
use super::serialization::{Graph, Item, Object, Value};

const TLS_FACTORY: &str = "javax.rmi.ssl.SslRMIClientSocketFactory";

/// Where a remote object lives, as its server believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteReference {
    /// The server's own idea of its host name; often wrong behind NAT and in containers.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The object on that port.
    pub object: ObjectId,
    /// Whether the stub asks for TLS.
    pub tls: bool,
}

/// Why an object is not a usable stub.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StubError {
    /// The object is no stub.
    #[error("the reply holds {0} instead of a remote stub")]
    NotAStub(String),
    /// The reference type is one this client does not know.
    #[error("unknown remote reference type {0}")]
    UnknownReference(String),
    /// The stub demands a socket factory class of the application.
    #[error("the stub needs the client socket factory {0}, which only a JVM could load")]
    CustomFactory(String),
    /// The reference's bytes end early or hold impossible values.
    #[error("malformed remote reference")]
    Malformed,
}

impl RemoteReference {
    /// Reads the reference out of a generated stub class or a dynamic proxy.
    ///
    /// # Errors
    /// See [`StubError`].
    pub fn from_stub(graph: &Graph, value: Value) -> Result<Self, StubError> {
        let stub = graph.object(value).ok_or_else(|| StubError::NotAStub("no object".to_owned()))?;
        // A proxy keeps the reference in its invocation handler.
        let holder = graph.object(stub.field("h")).unwrap_or(stub);
        if !holder.is_a("java.rmi.server.RemoteObject") {
            return Err(StubError::NotAStub(stub.class_name().to_owned()));
        }
        Self::from_annotation(graph, holder)
    }

    fn from_annotation(graph: &Graph, holder: Object<'_>) -> Result<Self, StubError> {
        let mut bytes = Vec::new();
        let mut factory = None;
        for item in holder.annotation("java.rmi.server.RemoteObject") {
            match item {
                Item::Block(block) => bytes.extend_from_slice(block),
                Item::Value(value) => factory = graph.object(value),
            }
        }
        let mut fields = Fields(&bytes);
        match fields.utf()?.as_str() {
            "UnicastRef" => {}
            "UnicastRef2" => {
                fields.take::<1>()?;
            }
            other => return Err(StubError::UnknownReference(other.to_owned())),
        }
        let host = fields.utf()?;
        let port = u16::try_from(u32::from_be_bytes(fields.take()?)).map_err(|_| StubError::Malformed)?;
        let number = i64::from_be_bytes(fields.take()?);
        let object = ObjectId { number, uid: fields.take()? };
        match factory.map(Object::class_name) {
            Some(class) if class != TLS_FACTORY => Err(StubError::CustomFactory(class.to_owned())),
            factory => Ok(Self { host, port, object, tls: factory.is_some() }),
        }
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], StubError> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(StubError::Malformed)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn utf(&mut self) -> Result<String, StubError> {
        let length = usize::from(u16::from_be_bytes(self.take()?));
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(StubError::Malformed)?;
        self.0 = rest;
        String::from_utf8(bytes.to_vec()).map_err(|_| StubError::Malformed)
    }
}

/// An exception that a call threw on the other side.
///
/// ```
/// use metrics_adapter::jmx::RemoteException;
///
/// let exception = RemoteException {
///     class: "javax.management.InstanceNotFoundException".into(),
///     message: "shop:type=Cart".into(),
///     chain: vec!["javax.management.InstanceNotFoundException".into()],
/// };
/// assert!(exception.involves("javax.management.InstanceNotFoundException"));
/// ```
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{class}: {message}")]
pub struct RemoteException {
    /// Class of the innermost cause.
    pub class: String,
    /// Its message, empty when it has none.
    pub message: String,
    /// Classes from the outermost wrapper to the innermost cause.
    pub chain: Vec<String>,
}

impl RemoteException {
    /// Longest chain of causes that is followed.
    const MAX_CAUSES: usize = 16;

    /// Follows the causes of a thrown object; `detail`, `exception` and `target` are how older wrapper
    /// classes keep theirs.
    #[doc(hidden)]
    #[must_use]
    pub fn from_throwable(graph: &Graph, value: Value) -> Self {
        let mut found = Self { class: String::new(), message: String::new(), chain: Vec::new() };
        let mut next = graph.object(value);
        while let Some(throwable) = next {
            if found.chain.len() == Self::MAX_CAUSES {
                break;
            }
            throwable.class_name().clone_into(&mut found.class);
            found.message = graph.string(throwable.field("detailMessage")).unwrap_or_default().to_owned();
            found.chain.push(found.class.clone());
            next = ["cause", "detail", "exception", "target"].iter().find_map(|field| {
                // A throwable without a cause refers to itself.
                let cause = throwable.field(field);
                graph
                    .object(cause)
                    .filter(|object| object.is_a("java.lang.Throwable") && !same(*object, throwable))
            });
        }
        found
    }

    /// Whether any class of the chain has this name.
    #[must_use]
    pub fn involves(&self, class: &str) -> bool {
        self.chain.iter().any(|name| name == class)
    }
}

fn same(a: Object<'_>, b: Object<'_>) -> bool {
    a.id() == b.id()
}
