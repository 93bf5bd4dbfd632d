//! Reads of big-endian primitives that either succeed whole or report that bytes are missing.

/// The token is not complete in the buffer yet.
#[derive(Debug)]
pub(super) struct Incomplete;

/// A position in the unread input; dropping it without [`Cursor::position`] consumes nothing.
pub(super) struct Cursor<'a> {
    input: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, position: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Incomplete> {
        let end = self.position.checked_add(count).ok_or(Incomplete)?;
        let bytes = self.input.get(self.position..end).ok_or(Incomplete)?;
        self.position = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Incomplete> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Incomplete> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Incomplete> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Incomplete> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Incomplete> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string with a 16-bit length, as `DataOutput.writeUTF` makes it.
    pub(super) fn short_string(&mut self) -> Result<&'a [u8], Incomplete> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }
}
