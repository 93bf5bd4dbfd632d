//! Reading a large blob piece by piece, straight from its pack (`gitformat-pack`).
//!
//! libgit2 gives packed objects only whole. Git keeps large blobs out of deltas, so the bytes in
//! the pack are the blob, compressed.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use flate2::bufread::ZlibDecoder;

use super::RepoError;
use super::store::list;
use crate::protocol::ObjectId;

const HEADER: u64 = 8;
const FAN_OUT: u64 = 256 * 4;
const BLOB: u8 = 3;

/// The content of a blob that lies whole in a pack below `objects`; `None` when it doesn't.
pub(crate) fn open(objects: &Path, id: ObjectId) -> Result<Option<impl Read>, RepoError> {
    for index in list(&objects.join("pack"))? {
        if index.extension().is_none_or(|extension| extension != "idx") {
            continue;
        }
        let offset = File::open(&index).and_then(|file| find(&file, id));
        let Some(offset) = offset.map_err(RepoError::io("reading", &index))? else { continue };
        let pack = index.with_extension("pack");
        return content(&pack, offset).map_err(RepoError::io("reading", &pack));
    }
    Ok(None)
}

/// Looks a name up in an index of version 2.
fn find(index: &File, id: ObjectId) -> io::Result<Option<u64>> {
    let mut magic = [0; 8];
    index.read_exact_at(&mut magic, 0)?;
    if magic != *b"\xfftOc\0\0\0\x02" {
        return Ok(None);
    }
    let first = u64::from(id.as_bytes()[0]);
    let mut low = if first == 0 { 0 } else { u64::from(word(index, HEADER + (first - 1) * 4)?) };
    let mut high = u64::from(word(index, HEADER + first * 4)?);
    let count = u64::from(word(index, HEADER + 255 * 4)?);
    let names = HEADER + FAN_OUT;
    while low < high {
        let middle = low.midpoint(high);
        let mut name = [0; 20];
        index.read_exact_at(&mut name, names + middle * 20)?;
        match name.cmp(id.as_bytes()) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return offset(index, count, middle).map(Some),
        }
    }
    Ok(None)
}

fn offset(index: &File, count: u64, at: u64) -> io::Result<u64> {
    let offsets = HEADER + FAN_OUT + count * 24;
    let short = word(index, offsets + at * 4)?;
    if short & 0x8000_0000 == 0 {
        return Ok(u64::from(short));
    }
    let mut long = [0; 8];
    index.read_exact_at(&mut long, offsets + count * 4 + u64::from(short & 0x7fff_ffff) * 8)?;
    Ok(u64::from_be_bytes(long))
}

fn word(file: &File, at: u64) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, at)?;
    Ok(u32::from_be_bytes(bytes))
}

fn content(pack: &Path, offset: u64) -> io::Result<Option<impl Read + use<>>> {
    let mut file = File::open(pack)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut input = BufReader::with_capacity(128 * 1024, file);
    let mut byte = [0; 1];
    input.read_exact(&mut byte)?;
    let kind = (byte[0] >> 4) & 7;
    // The size in the rest of the header is known already.
    while byte[0] & 0x80 != 0 {
        input.read_exact(&mut byte)?;
    }
    Ok((kind == BLOB).then(|| ZlibDecoder::new(input)))
}
