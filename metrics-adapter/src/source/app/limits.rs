//! Every default bound of a source, in one place.

use std::time::Duration;

/// Time for one gathering.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a page waits for a source, whatever its timeout. What is not there by then is shown as it was the last
/// time, if that is younger than `LAST_AGE`.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
pub(super) const LAST_AGE: Duration = Duration::from_secs(300);
/// How long a page waits for a source that is known to be slower than that.
pub(super) const GRACE: Duration = Duration::from_millis(50);
/// Samples of one source.
pub(super) const SERIES: usize = 100_000;
/// Bytes of one document (`max_bytes`), and the most that can be asked for.
pub(super) const BYTES: usize = 8 << 20;
pub(super) const MOST_BYTES: usize = 256 << 20;
/// Documents larger than this are read on a thread of their own.
pub(super) const BLOCKING: usize = 64 << 10;
/// Bytes of a configuration file.
pub(super) const CONFIG_BYTES: u64 = 4 << 20;
/// Sources of one configuration.
pub(super) const SOURCES: usize = 1000;
/// Files that a pattern of paths may name.
pub(super) const FILES: usize = 1000;
/// Bytes of one line of a followed log; the rest of a longer one is not looked at.
pub(super) const LINE: usize = 64 << 10;
/// Bytes of a log that are read at once before others get their turn.
pub(super) const LOG_PIECE: usize = 1 << 20;
