//! Java management (JMX) without a JVM: object names, values, and the RMI protocol that carries them.
//!
//! Everything but the drivers [`client`], [`jolokia`] and [`local`] is pure. [`serialization`] reads Java object streams into an arena, [`jrmp`]
//! frames remote calls and their replies, [`remote`], [`mbean`] and [`value`] give the objects their meaning,
//! [`client`] moves the bytes with tokio:
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
pub mod jolokia;
pub mod jrmp;
pub mod local;
pub mod mbean;
pub mod number;
pub mod object_name;
pub mod remote;
pub mod serialization;
pub mod service_url;
pub mod value;
