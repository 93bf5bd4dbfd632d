//! The names a certificate gives its owner: as much of X.509 (RFC 5280) as checking them needs.

use std::net::{Ipv4Addr, Ipv6Addr};

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const BOOLEAN: u8 = 0x01;
/// `[0]` and `[3]` of a `TBSCertificate`: version and extensions.
const VERSION: u8 = 0xA0;
const EXTENSIONS: u8 = 0xA3;
/// `2.5.29.17`, subjectAltName.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1D, 0x11];

/// DNS names, e-mail addresses, IP addresses and URIs of the subject, as text, in the order of the certificate.
///
/// Empty for what is no certificate, or has none.
pub(super) fn alternative_names(certificate: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = extension(certificate, SUBJECT_ALT_NAME).unwrap_or_default();
    while let Some((tag, content, after)) = next(rest) {
        names.extend(name(tag, content));
        rest = after;
    }
    names
}

/// One `GeneralName`; `None` for a kind that is not compared.
fn name(tag: u8, content: &[u8]) -> Option<String> {
    match (tag, content.len()) {
        // rfc822Name, dNSName, uniformResourceIdentifier
        (0x81 | 0x82 | 0x86, _) => std::str::from_utf8(content).ok().map(str::to_owned),
        (0x87, 4) => Some(Ipv4Addr::from(<[u8; 4]>::try_from(content).ok()?).to_string()),
        (0x87, 16) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(content).ok()?).to_canonical().to_string()),
        _ => None,
    }
}

/// The content of an extension's value.
fn extension<'a>(certificate: &'a [u8], id: &[u8]) -> Option<&'a [u8]> {
    let (fields, _) = of(SEQUENCE, of(SEQUENCE, certificate)?.0)?;
    let fields = of(VERSION, fields).map_or(fields, |(_, after)| after);
    // Serial number, algorithm, issuer, validity, subject, key; then what is optional.
    let (_, mut fields) = of(INTEGER, fields)?;
    for _ in 0..5 {
        fields = of(SEQUENCE, fields)?.1;
    }
    let extensions = loop {
        let (tag, content, after) = next(fields)?;
        if tag == EXTENSIONS {
            break content;
        }
        fields = after;
    };
    let (mut rest, _) = of(SEQUENCE, extensions)?;
    loop {
        let (one, after) = of(SEQUENCE, rest)?;
        let (found, value) = of(OBJECT_ID, one)?;
        if found == id {
            let value = of(BOOLEAN, value).map_or(value, |(_, after)| after);
            return of(SEQUENCE, of(OCTETS, value)?.0).map(|(names, _)| names);
        }
        rest = after;
    }
}

/// Content of a value with this tag, and what follows it.
fn of(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    next(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, after)| (content, after))
}

/// Tag and content of the first value, and what follows it.
fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) =
            rest.split_at_checked(usize::from(first & 0x7F)).filter(|(d, _)| d.len() <= 4)?;
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn made(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn every_kind_is_read_as_text() {
        let certificate = made(vec![
            SanType::DnsName("scraper.example".try_into().unwrap()),
            SanType::Rfc822Name("ops@example.com".try_into().unwrap()),
            SanType::IpAddress("10.1.2.3".parse().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
            SanType::URI("spiffe://cluster/ns/monitoring".try_into().unwrap()),
        ]);
        let expected = [
            "scraper.example",
            "ops@example.com",
            "10.1.2.3",
            "2001:db8::1",
            "spiffe://cluster/ns/monitoring",
        ];
        assert_eq!(alternative_names(&certificate), expected);
        assert!(alternative_names(&made(vec![])).is_empty());
    }

    proptest! {
        #[test]
        fn a_damaged_certificate_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut certificate = made(vec![SanType::DnsName("a.example".try_into().unwrap())]);
            let at = at.index(certificate.len());
            certificate[at] = byte;
            certificate.truncate(cut.index(certificate.len() + 1));
            let _ = alternative_names(&certificate);
        }
    }
}
