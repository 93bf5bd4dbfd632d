//! Java management (JMX) without a JVM: object names, values, and the RMI protocol that carries them.
//!
//! Everything but the drivers [`client`], `jolokia` and `local` is pure. `serialization` reads Java object streams
//! into an arena, `jrmp` frames remote calls and their replies, `remote`, `mbean` and `value` give the objects their
//! meaning, [`client`] moves the bytes with tokio:
//!
//! ```no_run
//! use metrics_adapter::jmx::client::{AttributeRequest, Client, Options};
//!
//! # async fn heap() -> Result<(), metrics_adapter::jmx::client::Error> {
//! let mut client = Client::connect(Options::new("localhost", 9010)).await?;
//! let request = AttributeRequest { bean: "java.lang:type=Memory", attributes: &["HeapMemoryUsage"] };
//! for (name, value) in client.attributes(&[request]).await?.remove(0).values() {
//!     println!("{name} = {value:?}");
//! }
//! client.close().await;
//! # Ok(()) }
//! ```

pub mod client;
// Hidden: what the client is made of, and reached by fuzz targets and tests of this crate only.
#[doc(hidden)]
pub mod jolokia;
#[doc(hidden)]
pub mod jrmp;
#[doc(hidden)]
pub mod local;
#[doc(hidden)]
pub mod mbean;
#[doc(hidden)]
pub mod number;
#[doc(hidden)]
pub mod object_name;
#[doc(hidden)]
pub mod remote;
#[doc(hidden)]
pub mod serialization;
#[doc(hidden)]
pub mod service_url;
#[doc(hidden)]
pub mod value;

pub use mbean::{AttributeInfo, MBeanInfo, ObjectInstance};
pub use number::Number;
pub use object_name::{ObjectName, ObjectNameError};
pub use remote::RemoteException;
pub use serialization::Limits;
pub use service_url::{RegistryAddress, ServiceUrlError};
pub use value::{Composite, Tabular, Value};
