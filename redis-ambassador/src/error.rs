//! Why the ambassador cannot run.

/// A failure that ends the process. Trouble with servers or clients never does.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use redis_ambassador::{Config, Error, Shutdown, run};
///
/// let mut config = Config::new("10.0.0.1:6379".parse()?, vec![]);
/// config.listen = vec![redis_ambassador::Listen::Unix("/does/not/exist/redis.sock".into())];
/// assert!(matches!(run(config, Shutdown::new()).await, Err(Error::Listen(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address for clients or the admin port cannot be listened on.
    #[error("cannot listen")]
    Listen(#[source] std::io::Error),
    /// A thread that moves data cannot be started.
    #[error("cannot start a worker thread")]
    Thread(#[source] std::io::Error),
    /// TLS files cannot be used.
    #[error("cannot set up TLS")]
    Tls(#[from] crate::tls::TlsError),
    /// The file with the clients' users cannot be used.
    #[error("cannot read the clients' users")]
    Users(#[from] crate::users::UsersError),
    /// A secret file cannot be read.
    #[error("cannot read a password")]
    Secret(#[source] common::secret::SecretError),
}
