//! Where a signature is in a commit or tag, and what it signs. Pure; the formats are in git's
//! `Documentation/gitformat-signature`.

/// A signature and the bytes it vouches for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) signature: Vec<u8>,
    pub(super) payload: Vec<u8>,
    /// When it claims to have been made: by the committer or tagger, Unix.
    pub(super) time: i64,
}

/// Of a commit: the header `gpgsig`, and everything but such headers.
pub(super) fn commit(data: &[u8]) -> Option<Signed> {
    let end = memchr::memmem::find(data, b"\n\n").map_or(data.len(), |at| at + 1);
    let (head, rest) = data.split_at(end);
    let (mut signature, mut payload) = (Vec::new(), Vec::new());
    // Which header the line belongs to: continuations begin with a space.
    let mut header: &[u8] = b"";
    let mut count = 0;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let content = match line.strip_prefix(b" ") {
            Some(continued) => continued,
            None => {
                let name = line.iter().position(|byte| matches!(byte, b' ' | b'\n')).unwrap_or(line.len());
                header = &line[..name];
                count += usize::from(header == b"gpgsig");
                line.get(name + 1..).unwrap_or_default()
            }
        };
        match header {
            b"gpgsig" => signature.extend_from_slice(content),
            name if name.starts_with(b"gpgsig") => {}
            _ => payload.extend_from_slice(line),
        }
    }
    payload.extend_from_slice(rest);
    // Two of them are nobody's honest commit.
    (count == 1).then(|| Signed { signature, time: time(head, b"committer "), payload })
}

/// Of an annotated tag: what begins with the last line that begins a signature.
pub(super) fn tag(data: &[u8]) -> Option<Signed> {
    let starts = [
        &b"-----BEGIN PGP SIGNATURE-----"[..],
        b"-----BEGIN PGP MESSAGE-----",
        b"-----BEGIN SSH SIGNATURE-----",
    ];
    let lines = memchr::memchr_iter(b'\n', data).map(|at| at + 1);
    let at = lines.filter(|at| starts.iter().any(|start| data[*at..].starts_with(start))).last()?;
    let (payload, signature) = data.split_at(at);
    let end = memchr::memmem::find(payload, b"\n\n").unwrap_or(payload.len());
    let time = time(&payload[..end], b"tagger ");
    Some(Signed { signature: signature.to_vec(), payload: payload.to_vec(), time })
}

fn time(head: &[u8], name: &[u8]) -> i64 {
    let line = head.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let after = memchr::memrchr(b'>', line).map_or(&b""[..], |at| &line[at + 1..]);
    let text = std::str::from_utf8(after).unwrap_or_default();
    text.split_ascii_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn signatures_are_cut_out() {
        let text = b"tree 1\ncommitter A <a> 77 +0000\ngpgsig -----BEGIN\n \n abc\n -----END\nencoding x\n\ngpgsig no\n";
        let signed = commit(text).unwrap();
        assert_eq!(signed.signature, b"-----BEGIN\n\nabc\n-----END\n");
        assert_eq!(signed.payload, b"tree 1\ncommitter A <a> 77 +0000\nencoding x\n\ngpgsig no\n");
        assert_eq!(signed.time, 77);
        assert_eq!(commit(b"tree 1\n\ngpgsig x\n"), None);
        assert_eq!(commit(b"gpgsig a\ngpgsig b\n\nx"), None);
        let text = b"object 1\ntagger A <a> 5 +0000\n\nhello\n-----BEGIN SSH SIGNATURE-----\nx\n";
        let signed = tag(text).unwrap();
        assert_eq!((signed.time, &signed.payload[..]), (5, &text[..text.len() - 32]));
        assert_eq!(tag(b"object 1\n\nhello\n"), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(data in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (commit(&data), tag(&data));
        }
    }
}
