//! Keeps a shared folder equal to a git ref.
