//! Shaping a published copy for web servers: times that are the same everywhere, nothing hidden,
//! and compressed siblings that a server sends as they are (`gzip_static` and the like).

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use crate::protocol::ObjectId;
use crate::repo::{IndexEntry, RegularFile, RepoError};

/// Smaller files gain nothing.
const SMALLEST: u64 = 256;
/// Larger ones are left to the server: they would have to be held in memory.
const LARGEST: u64 = 16 << 20;
/// Up to this size the best level is worth its time.
const SMALL: usize = 512 << 10;
/// More threads only cost memory.
const MAX_THREADS: usize = 4;
/// What compresses well and is asked for by browsers.
const EXTENSIONS: &[&str] = &[
    "atom",
    "bmp",
    "cjs",
    "css",
    "csv",
    "eot",
    "geojson",
    "htm",
    "html",
    "ico",
    "js",
    "json",
    "jsonld",
    "map",
    "md",
    "mjs",
    "otf",
    "rss",
    "svg",
    "topojson",
    "ttf",
    "txt",
    "vtt",
    "wasm",
    "webmanifest",
    "xhtml",
    "xml",
    "yaml",
    "yml",
];

/// How a published copy differs from the checkout.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
/// use gitsync::{Codec, Strip, Web};
///
/// config.web = Web { strip: Strip::Dotfiles, commit_times: true, codecs: vec![Codec::Brotli, Codec::Gzip] };
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Web {
    /// What is left out.
    pub strip: Strip,
    /// Files have the time of the commit.
    pub commit_times: bool,
    /// Siblings to make.
    pub codecs: Vec<Codec>,
}

/// What is left out of a published copy.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
///
/// config.web.strip = gitsync::Strip::Git;
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strip {
    /// Nothing that a symlink to the checkout shows.
    #[default]
    Nothing,
    /// Git's pointer files.
    Git,
    /// Whatever begins with a dot, but for `.well-known` (RFC 8615).
    Dotfiles,
}

/// A compressed sibling.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
///
/// config.web.codecs = vec![gitsync::Codec::Zstandard];
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// `.gz`
    Gzip,
    /// `.br`
    Brotli,
    /// `.zst`
    Zstandard,
}

impl Codec {
    /// By its extension.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Gzip, Self::Brotli, Self::Zstandard].into_iter().find(|codec| codec.extension() == name)
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Gzip => "gz",
            Self::Brotli => "br",
            Self::Zstandard => "zst",
        }
    }

    fn compress(self, data: &[u8]) -> io::Result<Vec<u8>> {
        let is_small = data.len() <= SMALL;
        match self {
            Self::Gzip => {
                let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                out.write_all(data)?;
                out.finish()
            }
            Self::Brotli => {
                let quality = if is_small { 11 } else { 9 };
                let mut out = brotli::CompressorWriter::new(Vec::new(), 4_096, quality, 22);
                out.write_all(data)?;
                Ok(out.into_inner())
            }
            // The images hold nothing of it below level 16 but level 1 (`images/build.sh`).
            Self::Zstandard => zstd::bulk::compress(data, if is_small { 19 } else { 16 }),
        }
    }
}

impl Web {
    /// Whether a symlink to the checkout itself wouldn't do.
    #[doc(hidden)]
    pub fn is_on(&self) -> bool {
        *self != Self::default()
    }

    /// For telling apart what was made with which settings.
    pub(super) fn text(&self) -> String {
        if self.is_on() { format!("{self:?}") } else { String::new() }
    }
}

/// An earlier copy, whose siblings can be taken over.
pub(super) struct Before<'a> {
    pub(super) top: &'a Path,
    pub(super) entries: HashMap<Vec<u8>, IndexEntry>,
}

/// Makes what `web` asks for in a finished copy; `entries` are brought up to date. `time`: of the
/// commit, Unix.
pub(super) fn finish(
    top: &Path,
    entries: &mut Vec<IndexEntry>,
    web: &Web,
    time: i64,
    before: Option<&Before<'_>>,
) -> Result<(), RepoError> {
    if web.commit_times {
        let time = u64::try_from(time).unwrap_or_default();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
        for entry in entries.iter_mut().filter(|entry| entry.is_regular()) {
            let path = entry.place(top);
            File::open(&path)
                .and_then(|file| file.set_modified(time))
                .map_err(RepoError::io("setting the time of", &path))?;
            entry.look_again(top)?;
        }
    }
    if web.codecs.is_empty() {
        return Ok(());
    }
    let taken: std::collections::HashSet<&[u8]> = entries.iter().map(|entry| &entry.path[..]).collect();
    let jobs: Vec<(usize, Codec)> = (0..entries.len())
        .filter(|at| is_worth_it(&entries[*at]))
        .flat_map(|at| web.codecs.iter().map(move |codec| (at, *codec)))
        // What the repository brings itself stays.
        .filter(|(at, codec)| !taken.contains(&sibling(&entries[*at].path, *codec)[..]))
        .collect();
    let made = Mutex::new(Vec::new());
    let (next, shown) = (AtomicUsize::new(0), &entries[..]);
    let worker = || -> Result<(), RepoError> {
        while let Some((at, codec)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(entry) = one(top, &shown[*at], *codec, before)? {
                made.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(entry);
            }
        }
        Ok(())
    };
    let threads =
        std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(jobs.len());
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        others.into_iter().fold(worker(), |result, thread| {
            let panicked = || Err(RepoError::NotFound("a compressing thread panicked".to_owned()));
            result.and(thread.join().unwrap_or_else(|_| panicked()))
        })
    })?;
    entries.extend(made.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner));
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(())
}

fn is_worth_it(entry: &IndexEntry) -> bool {
    let name = Path::new(std::ffi::OsStr::from_bytes(&entry.path));
    let extension = name.extension().and_then(|text| text.to_str()).unwrap_or_default().to_ascii_lowercase();
    entry.is_regular()
        && (SMALLEST..=LARGEST).contains(&u64::from(entry.stat.size))
        && EXTENSIONS.binary_search(&&extension[..]).is_ok()
}

fn sibling(path: &[u8], codec: Codec) -> Vec<u8> {
    [path, b".", codec.extension().as_bytes()].concat()
}

/// Makes one sibling; `None` when it would be no smaller.
fn one(
    top: &Path,
    source: &IndexEntry,
    codec: Codec,
    before: Option<&Before<'_>>,
) -> Result<Option<IndexEntry>, RepoError> {
    let path = source.place(top);
    let name = sibling(&source.path, codec);
    let target = top.join(std::ffi::OsStr::from_bytes(&name));
    let meta = fs::metadata(&path).map_err(RepoError::io("reading the state of", &path))?;
    // The size in an index is cut to 32 bits.
    if meta.len() > LARGEST {
        return Ok(None);
    }
    let same = |before: &&Before<'_>| {
        source.id != ObjectId::ZERO && before.entries.get(&source.path).is_some_and(|old| old.id == source.id)
    };
    let old = before.filter(same).filter(|old| {
        old.entries.get(&name).is_none_or(|entry| entry.id == source.id && entry.is_untouched(old.top))
    });
    match old {
        Some(old) if old.entries.contains_key(&name) => {
            fs::copy(old.top.join(std::ffi::OsStr::from_bytes(&name)), &target)
                .map_err(RepoError::io("copying", &target))?;
        }
        // It was no smaller the last time.
        Some(_) => return Ok(None),
        None => {
            let data = fs::read(&path).map_err(RepoError::io("reading", &path))?;
            let packed = codec.compress(&data).map_err(RepoError::io("compressing", &path))?;
            if packed.len() >= data.len() {
                return Ok(None);
            }
            fs::write(&target, packed).map_err(RepoError::io("writing", &target))?;
        }
    }
    File::options()
        .write(true)
        .open(&target)
        .and_then(|file| {
            file.set_permissions(meta.permissions())?;
            file.set_modified(meta.modified()?)
        })
        .map_err(RepoError::io("setting the time of", &target))?;
    let mut entry = IndexEntry { path: name, ..source.clone() };
    entry.look_again(top)?;
    Ok(Some(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_sorted() {
        assert!(EXTENSIONS.is_sorted());
    }
}
