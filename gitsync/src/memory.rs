//! Giving memory back that an update needed and an idle process doesn't.

/// Free bytes that glibc may keep for the next update.
#[cfg(target_env = "gnu")]
const SPARE: usize = 1 << 20;

/// Returns what is free to the system, where it is much. glibc does that by itself only with what lies at the end
/// of its heaps: after the history of a large repository, 13 MB would stay.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub(crate) fn give_back() {
    // SAFETY: both may be called at any time from any thread, and touch nothing that is in use.
    unsafe {
        if libc::mallinfo2().fordblks > SPARE {
            libc::malloc_trim(0);
        }
    }
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn give_back() {}
