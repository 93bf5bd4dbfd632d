//! Java's own key store format (`JKS`, and `JCEKS` as far as certificates go).
//!
//! Source: `sun.security.provider.JavaKeyStore` as documented in the JDK's comments: big-endian fields, keys
//! hidden behind a SHA-1 key stream, and a SHA-1 digest over password, a fixed phrase and the content.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha1::{Digest, Sha1};
use thiserror::Error;

use super::{KeyEntry, KeyStore, der};

const MAGIC: u32 = 0xFEED_FEED;
const DIGEST: usize = 20;
/// Entries and certificates per chain; real stores have a few hundred at most.
const MAX_COUNT: u32 = 10_000;

/// Why the bytes are no usable store.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum JksError {
    #[error("it ends early")]
    Truncated,
    #[error("the password is wrong, or the store is damaged")]
    Password,
    #[error("it is no JKS store of version 1 or 2, or holds unknown entries")]
    Unknown,
}

pub(super) fn is_jks(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC.to_be_bytes())
}

pub(super) fn parse(bytes: &[u8], password: &str) -> Result<KeyStore, JksError> {
    let content = bytes.len().checked_sub(DIGEST).ok_or(JksError::Truncated)?;
    let (content, digest) = bytes.split_at(content);
    let password = utf16(password);
    // Without a password Java skips the check too; certificates need none.
    if !password.is_empty() {
        let expected =
            Sha1::new_with_prefix(&password).chain_update("Mighty Aphrodite").chain_update(content);
        if expected.finalize().as_slice() != digest {
            return Err(JksError::Password);
        }
    }
    let mut fields = Fields(content);
    let version = (fields.u32()?, fields.u32()?).1;
    if !(1..=2).contains(&version) {
        return Err(JksError::Unknown);
    }
    let mut store = KeyStore::default();
    for _ in 0..fields.count()? {
        let tag = fields.u32()?;
        let alias = fields.text()?;
        let _created = fields.bytes(8)?;
        match tag {
            1 => {
                let hidden = fields.long_bytes()?;
                let chain =
                    (0..fields.count()?).map(|_| fields.certificate(version)).collect::<Result<_, _>>()?;
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(reveal(hidden, &password)?));
                store.keys.push(KeyEntry { alias, chain, key });
            }
            2 => store.trusted.push(fields.certificate(version)?),
            _ => return Err(JksError::Unknown),
        }
    }
    Ok(store)
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], JksError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(JksError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, JksError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(JksError::Truncated)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    fn count(&mut self) -> Result<u32, JksError> {
        self.u32().and_then(|count| if count > MAX_COUNT { Err(JksError::Unknown) } else { Ok(count) })
    }

    fn long_bytes(&mut self) -> Result<&'a [u8], JksError> {
        let length = self.u32()? as usize;
        self.bytes(length)
    }

    fn text(&mut self) -> Result<String, JksError> {
        let length = self.bytes(2)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        Ok(String::from_utf8_lossy(self.bytes(length)?).into_owned())
    }

    fn certificate(&mut self, version: u32) -> Result<CertificateDer<'static>, JksError> {
        if version == 2 && self.text()? != "X.509" {
            return Err(JksError::Unknown);
        }
        Ok(CertificateDer::from(self.long_bytes()?.to_vec()))
    }
}

/// Takes the protection off: an `EncryptedPrivateKeyInfo` whose data are salt, hidden key and check digest.
fn reveal(info: &[u8], password: &[u8]) -> Result<Vec<u8>, JksError> {
    let data = der::split(info, 0x30)
        .and_then(|(_, sequence)| der::split(sequence, 0x30))
        .and_then(|(after_algorithm, _)| der::split(after_algorithm, 0x04));
    let (_, data) = data.ok_or(JksError::Unknown)?;
    let length = data.len().checked_sub(2 * DIGEST).ok_or(JksError::Truncated)?;
    let (salt, rest) = data.split_at(DIGEST);
    let (hidden, check) = rest.split_at(length);
    let mut key = Vec::with_capacity(length);
    let mut stream = salt.to_vec();
    for block in hidden.chunks(DIGEST) {
        stream = Sha1::new_with_prefix(password).chain_update(&stream).finalize().to_vec();
        key.extend(block.iter().zip(&stream).map(|(byte, mask)| byte ^ mask));
    }
    let found = Sha1::new_with_prefix(password).chain_update(&key).finalize();
    if found.as_slice() == check { Ok(key) } else { Err(JksError::Password) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn garbage_never_panics(tail in any::<Vec<u8>>()) {
            let mut bytes = MAGIC.to_be_bytes().to_vec();
            bytes.extend(&[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1]);
            bytes.extend(&tail);
            let _ = parse(&bytes, "");
            let _ = reveal(&tail, b"x");
        }
    }
}
