//! Why LFS content couldn't be had.

/// A failure; what was published before stays. Secrets of addresses and headers are never in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LfsError {
    /// There is no server to ask.
    #[error("LFS: {0}")]
    Setup(String),
    /// The server doesn't answer the batch request.
    #[error("the LFS server {url} {reason}")]
    Server {
        /// Its address.
        url: String,
        /// What it does instead.
        reason: String,
    },
    /// One object can't be had.
    #[error("LFS object {oid} of {path:?} from {url}: {reason}")]
    Object {
        /// The first file that needs it, lossily as text.
        path: String,
        /// The SHA-256 of its content.
        oid: String,
        /// Where it was to come from.
        url: String,
        /// Why it didn't.
        reason: String,
    },
}
