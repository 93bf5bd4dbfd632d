//! OpenPGP signatures. The crate checks the mathematics; what a key may do, and until when, is
//! decided here.

use std::io::Cursor;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgp::composed::{Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::KeyDetails;

use super::Why;
use super::object::Signed;

/// A clock may be a bit ahead.
const AHEAD: Duration = Duration::from_secs(300);

pub(super) fn check(keyring: &[u8], signed: &Signed) -> Result<(), Why> {
    let bad = |error: pgp::errors::Error| Why::Bad(error.to_string());
    let (signature, _) = DetachedSignature::from_armor_single(Cursor::new(&signed.signature)).map_err(bad)?;
    let issuers: Vec<String> = signature
        .signature
        .issuer_fingerprint()
        .iter()
        .map(|fingerprint| format!("{fingerprint:x}"))
        .chain(signature.signature.issuer_key_id().iter().map(|id| id.to_string()))
        .collect();
    let name = issuers.first().cloned().unwrap_or_else(|| "an unnamed key".to_owned());
    is_strong(&signature.signature)?;
    let mut reason = Why::UnknownKey(name);
    for key in keys(keyring)? {
        match one(&key, &signature, signed, &issuers) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(why) => reason = why,
        }
    }
    Err(reason)
}

fn keys(keyring: &[u8]) -> Result<Vec<SignedPublicKey>, Why> {
    let unreadable =
        |error: pgp::errors::Error| Why::Unsupported(format!("the OpenPGP keyring can't be read: {error}"));
    let (keys, _) = SignedPublicKey::from_reader_many(Cursor::new(keyring)).map_err(unreadable)?;
    // One that isn't understood doesn't take the others away.
    Ok(keys.filter_map(Result::ok).collect())
}

/// A signature of a kind and with a hash that somebody else can't make fit.
fn is_strong(signature: &Signature) -> Result<(), Why> {
    if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
        return Err(Why::Bad("it is no signature of a document".to_owned()));
    }
    match signature.hash_alg() {
        Some(HashAlgorithm::Md5 | HashAlgorithm::Sha1 | HashAlgorithm::Ripemd160) | None => {
            Err(Why::Bad("its hash is too weak".to_owned()))
        }
        Some(_) => Ok(()),
    }
}

/// Whether `key` or one of its subkeys made the signature; false when it belongs to another key.
fn one(
    key: &SignedPublicKey,
    signature: &DetachedSignature,
    signed: &Signed,
    issuers: &[String],
) -> Result<bool, Why> {
    let bad = |text: &str| Err(Why::Bad(text.to_owned()));
    let made_it =
        |details: &dyn Named| issuers.is_empty() || details.names().iter().any(|name| issuers.contains(name));
    let own: Vec<&Signature> = self_signatures(key);
    if key.details.revocation_signatures.iter().any(|revoked| revoked.verify_key(&key.primary_key).is_ok()) {
        let any = made_it(&key.primary_key) || key.public_subkeys.iter().any(|sub| made_it(&sub.key));
        return if any { bad("the key was revoked") } else { Ok(false) };
    }
    let verified = if made_it(&key.primary_key) && signature.verify(&key.primary_key, &signed.payload).is_ok()
    {
        let Some(newest) = newest(&own) else { return bad("the key doesn't vouch for itself") };
        if !newest.key_flags().sign() {
            return bad("the key isn't for signing");
        }
        is_alive(&key.primary_key, newest)?;
        true
    } else if let Some(sub) = key
        .public_subkeys
        .iter()
        .find(|sub| made_it(&sub.key) && signature.verify(&sub.key, &signed.payload).is_ok())
    {
        is_alive(&sub.key, binding(key, sub)?)?;
        let Some(newest) = newest(&own) else { return bad("the key doesn't vouch for itself") };
        is_alive(&key.primary_key, newest)?;
        true
    } else {
        let named = !issuers.is_empty()
            && (made_it(&key.primary_key) || key.public_subkeys.iter().any(|sub| made_it(&sub.key)));
        return if named { bad("it doesn't fit the content") } else { Ok(false) };
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + AHEAD;
    let Some(created) = signature.signature.created() else { return bad("it has no time") };
    let created = Duration::from_secs(u64::from(created.as_secs()));
    if created > now {
        return bad("it is from the future; compare the clocks");
    }
    if let Some(life) = signature.signature.signature_expiration_time()
        && !expiry(life.as_secs()).is_zero()
        && created + expiry(life.as_secs()) < now
    {
        return bad("it has expired");
    }
    Ok(verified)
}

fn expiry(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds))
}

/// How a key is called in signatures.
trait Named {
    fn names(&self) -> [String; 2];
}

impl<K: KeyDetails> Named for K {
    fn names(&self) -> [String; 2] {
        [format!("{:x}", self.fingerprint()), self.legacy_key_id().to_string()]
    }
}

/// What the primary key says about itself, checked.
fn self_signatures(key: &SignedPublicKey) -> Vec<&Signature> {
    let users = key.details.users.iter().flat_map(|user| {
        let by_itself = user.signatures.iter().filter(|one| one.is_certification()).filter(|one| {
            one.verify_certification(&key.primary_key, pgp::types::Tag::UserId, &user.id).is_ok()
        });
        by_itself.collect::<Vec<_>>()
    });
    let direct = key.details.direct_signatures.iter().filter(|one| one.verify_key(&key.primary_key).is_ok());
    users.chain(direct).collect()
}

fn newest<'a>(signatures: &[&'a Signature]) -> Option<&'a Signature> {
    signatures.iter().max_by_key(|one| one.created().map(|time| time.as_secs())).copied()
}

/// The newest signature that binds a subkey for signing, checked in both directions.
fn binding<'a>(key: &SignedPublicKey, sub: &'a SignedPublicSubKey) -> Result<&'a Signature, Why> {
    let bad = |text: &str| Why::Bad(text.to_owned());
    let bound: Vec<&Signature> = sub
        .signatures
        .iter()
        .filter(|one| one.verify_subkey_binding(&key.primary_key, &sub.key).is_ok())
        .collect();
    if bound.iter().any(|one| one.typ() == Some(SignatureType::SubkeyRevocation)) {
        return Err(bad("the subkey was revoked"));
    }
    let newest = newest(&bound).ok_or_else(|| bad("the subkey isn't bound to its key"))?;
    let back = newest.embedded_signature();
    let agrees = back.is_some_and(|back| back.verify_primary_key_binding(&sub.key, &key.primary_key).is_ok());
    if newest.key_flags().sign() && agrees { Ok(newest) } else { Err(bad("the subkey isn't for signing")) }
}

/// A key that has expired by now doesn't count, as for git.
fn is_alive(key: &impl KeyDetails, vouching: &Signature) -> Result<(), Why> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let created = Duration::from_secs(u64::from(key.created_at().as_secs()));
    let ends =
        vouching.key_expiration_time().map(|life| expiry(life.as_secs())).filter(|life| !life.is_zero());
    match ends {
        Some(life) if created + life < now => Err(Why::Bad("the key has expired".to_owned())),
        _ => Ok(()),
    }
}
