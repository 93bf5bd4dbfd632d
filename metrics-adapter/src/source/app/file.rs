//! Documents in files, through a volume that is shared with the application.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::io::AsyncReadExt as _;

use super::{Gather, GatherError, Gathering, limits};
use crate::reader::{Reader, Reading};

pub(super) struct Files {
    /// A path; its last part may hold `*`.
    pub(super) path: PathBuf,
    /// A file that was last written longer ago is an error.
    pub(super) max_age: Option<Duration>,
    pub(super) limit: usize,
    pub(super) reader: Reader,
    pub(super) max_series: usize,
}

impl Gather for Files {
    fn gather(&self) -> Gathering<'_> {
        Box::pin(async {
            let mut all = Reading::default();
            for path in paths(&self.path)? {
                let one = self.one(&path).await?;
                all.families.extend(one.families);
                all.skipped += one.skipped;
                all.first_skip = all.first_skip.or(one.first_skip);
            }
            Ok(all)
        })
    }

    fn read(&self, document: &[u8]) -> Option<Result<Reading, GatherError>> {
        Some(self.reader.read(document, self.max_series).map_err(GatherError::from))
    }
}

impl Files {
    async fn one(&self, path: &Path) -> Result<Reading, GatherError> {
        let shown = path.display();
        let bytes = read(path, self.limit, self.max_age).await?;
        let reading = super::build::parse(&self.reader, bytes, self.max_series).await;
        reading.map_err(|error| GatherError(format!("{shown}: {error}")))
    }
}

/// A regular file's bytes under a bound.
pub(super) async fn read(
    path: &Path,
    limit: usize,
    max_age: Option<Duration>,
) -> Result<Vec<u8>, GatherError> {
    let failed = |error: std::io::Error| GatherError(format!("{}: {error}", path.display()));
    let data = tokio::fs::metadata(path).await.map_err(failed)?;
    // Opening a named pipe would wait for a writer.
    if !data.is_file() {
        return Err(GatherError(format!("{}: no regular file", path.display())));
    }
    if let (Some(most), Ok(modified)) = (max_age, data.modified())
        && let Ok(age) = SystemTime::now().duration_since(modified)
        && age > most
    {
        let age = age.as_secs();
        return Err(GatherError(format!("{}: last written {age} s ago (max_age)", path.display())));
    }
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() > limit {
        return Err(GatherError(format!("{}: longer than {limit} bytes (max_bytes)", path.display())));
    }
    Ok(bytes)
}

/// The path itself, or every file its last part matches.
fn paths(path: &Path) -> Result<Vec<PathBuf>, GatherError> {
    let pattern = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !pattern.contains('*') {
        return Ok(vec![path.to_owned()]);
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    let failed = |error: std::io::Error| GatherError(format!("{}: {error}", directory.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(name) = name.to_str() else { continue };
        // As in a shell, a hidden file (one that is being written) is not meant.
        if !name.starts_with('.') && matches(pattern, name) {
            found.push(directory.join(name));
        }
        if found.len() > limits::FILES {
            return Err(GatherError(format!(
                "{}: matches more than {} files",
                path.display(),
                limits::FILES
            )));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*.prom", "a.prom", true),
            ("*.prom", "a.prom.tmp", false),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "axc", false),
            ("a*a", "a", false),
            ("*", "x", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
