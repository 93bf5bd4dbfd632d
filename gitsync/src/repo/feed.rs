//! A writer for what takes bytes in pieces, such as a hash.

use std::io;

/// Hands what is written to a function.
pub(crate) struct Feed<F>(pub(crate) F);

impl<F: FnMut(&[u8])> io::Write for Feed<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
