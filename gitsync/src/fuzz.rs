//! Doors for the fuzz targets into what is not public. Only there with `--cfg fuzzing`.

/// A webhook's head and body, as anybody may send them: the first line is a header, `name: value`, the next as well,
/// and the body follows an empty line.
pub fn webhook(delivery: &[u8]) {
    crate::trigger::fuzz(delivery);
}

/// A commit or tag object, and the file of allowed signers that it is checked against.
pub fn signature(object: &[u8], signers: &str) {
    crate::verify::fuzz(object, signers);
}

/// What a pack and a tree bring: a difference to an object, a tree, `.gitattributes`, patterns, an index.
pub fn objects(base: &[u8], other: &[u8]) {
    crate::repo::fuzz(base, other);
}
