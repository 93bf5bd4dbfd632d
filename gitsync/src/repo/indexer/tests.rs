use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::repo::objects::from_git2;

/// A pack of the given objects: kind code, header extra, content.
fn pack(objects: &[(u8, &[u8], &[u8])]) -> Vec<u8> {
    let mut wire = b"PACK\0\0\0\x02".to_vec();
    wire.extend_from_slice(&u32::try_from(objects.len()).unwrap().to_be_bytes());
    for (code, extra, content) in objects {
        let mut object = packfile::Encoder::new().encode_object(Kind::Blob, content).unwrap();
        object[0] = object[0] & 0x8f | code << 4;
        let header = object.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        wire.extend_from_slice(&object[..header]);
        wire.extend_from_slice(extra);
        wire.extend_from_slice(&object[header..]);
    }
    let checksum = Sha1::digest(&wire);
    wire.extend_from_slice(&checksum);
    wire
}

struct Place {
    dir: tempfile::TempDir,
    objects: Objects,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pack")).unwrap();
        let objects = Objects::open(dir.path()).unwrap();
        Self { dir, objects }
    }

    fn take(&self, wire: &[u8], cut: usize) -> Result<PackStats, RepoError> {
        let mut pieces: Vec<Bytes> = wire.chunks(cut).map(Bytes::copy_from_slice).collect();
        pieces.reverse();
        let stats = self.objects.take_pack(false, || pieces.pop(), &CancellationToken::new());
        let left: Vec<_> = std::fs::read_dir(self.dir.path().join("pack")).unwrap().flatten().collect();
        assert!(
            left.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with("tmp_")),
            "{left:?}"
        );
        stats
    }

    fn holds(&self, content: &[u8]) -> bool {
        let id = from_git2(git2::Oid::hash_object(git2::ObjectType::Blob, content).unwrap());
        self.objects.read(id).is_ok_and(|(_, data)| *data == *content)
    }
}

fn chain() -> Vec<u8> {
    let base = b"0123456789";
    let name = git2::Oid::hash_object(git2::ObjectType::Blob, base).unwrap();
    let first = pack(&[(3, b"", base)]);
    let distance = u8::try_from(first.len() - 12 - 20).unwrap();
    pack(&[
        (3, b"", base),
        (6, &[distance], &[10, 5, 0x90, 5]),
        (7, name.as_bytes(), &[10, 3, 0x91, 7, 3]),
        (1, b"", b"tree 0000000000000000000000000000000000000000\n\n"),
    ])
}

#[test]
fn objects_and_differences_in_pieces_of_every_size() {
    let wire = chain();
    for cut in 1..=wire.len() {
        let place = Place::new();
        assert_eq!(place.take(&wire, cut).unwrap().objects, 4, "cut {cut}");
        for content in [&b"0123456789"[..], b"01234", b"789"] {
            assert!(place.holds(content), "cut {cut}");
        }
    }
}

#[test]
fn thin_packs_are_completed() {
    let place = Place::new();
    let name = git2::Oid::hash_object(git2::ObjectType::Blob, b"0123456789").unwrap();
    let thin = pack(&[(7, name.as_bytes(), &[10, 3, 0x91, 7, 3])]);
    let refused = place.take(&thin, 9).unwrap_err();
    assert!(refused.to_string().contains("neither in it nor here"), "{refused}");
    place.take(&pack(&[(3, b"", b"0123456789")]), 9).unwrap();
    place.take(&thin, 9).unwrap();
    assert!(place.holds(b"789"));
    // Each pack stands for itself, and git agrees.
    for index in std::fs::read_dir(place.dir.path().join("pack")).unwrap().flatten() {
        if index.path().extension().is_some_and(|extension| extension == "idx") {
            let checked = Command::new("git").arg("verify-pack").arg(index.path()).output().unwrap();
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        }
    }
}

#[test]
fn an_empty_pack_leaves_nothing() {
    let place = Place::new();
    assert_eq!(place.take(&pack(&[]), 5).unwrap().objects, 0);
    assert_eq!(std::fs::read_dir(place.dir.path().join("pack")).unwrap().count(), 0);
}

#[test]
fn damage_is_refused_wherever_it_is() {
    let wire = chain();
    for at in 0..wire.len() {
        let mut broken = wire.clone();
        broken[at] ^= 0x10;
        assert!(Place::new().take(&broken, 64).is_err(), "byte {at}");
        assert!(Place::new().take(&wire[..at], 64).is_err(), "cut at {at}");
    }
    let long: Vec<u8> = wire.iter().copied().chain([0]).collect();
    assert!(Place::new().take(&long, 64).is_err());
}

#[test]
fn bases_in_a_circle_and_wild_sizes_are_refused() {
    let some = [7; 20];
    for wire in [
        pack(&[(7, &some, &[10, 3, 0x91, 7, 3])]),
        pack(&[(6, &[0], &[10, 3, 0x91, 7, 3])]),
        pack(&[(6, &[1], &[10, 3, 0x91, 7, 3])]),
        pack(&[(6, &[0xff; 12], &[10, 3, 0x91, 7, 3])]),
        pack(&[(5, b"", b"")]),
        pack(&[(3, b"", b"0123456789"), (6, &[5], &[10, 3, 0x91, 7, 3])]),
    ] {
        assert!(matches!(Place::new().take(&wire, 64), Err(RepoError::BadPack(_))));
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(tail in prop::collection::vec(any::<u8>(), 0..200), objects in 0u8..4, cut in 1usize..50) {
        let mut stream = PackStream::default();
        let mut wire = b"PACK\0\0\0\x02\0\0\0".to_vec();
        wire.push(objects);
        wire.extend(tail);
        for piece in wire.chunks(cut) {
            if stream.push(piece).is_err() {
                break;
            }
        }
    }
}
