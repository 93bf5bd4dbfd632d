//! Counters, gauges and histograms over a log that grows, is rotated or truncated.
//!
//! The file is read from where it was left, also over a restart when there is a `position_file`. A rotated file is
//! read to its end before the new one is begun.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::shutdown::Shutdown;
use memchr::memchr;

use super::{Gather, GatherError, Gathering, Starting, limits};
use crate::family::{Histogram, Kind, PackedLabels, Value};
use crate::reader::pattern::{PatternMetric, value_group};
use crate::reader::{Builder, Reading, shortened};

/// How often the file is looked at.
const POLL: Duration = Duration::from_millis(500);
/// Bytes read by one look, so that a scrape never waits for a whole backlog.
const MOST_AT_ONCE: usize = 64 << 20;

pub(super) struct Tail(Arc<Mutex<State>>);

/// What is followed.
pub(super) struct Settings {
    pub(super) path: PathBuf,
    pub(super) position_file: Option<PathBuf>,
    pub(super) from_start: bool,
    pub(super) metrics: Vec<TailMetric>,
    pub(super) max_series: usize,
}

/// One metric over lines. Counters count matches, or add up the group `value` where there is one.
pub(super) struct TailMetric {
    pub(super) pattern: PatternMetric,
    /// Upper bounds of a histogram.
    pub(super) buckets: Vec<f64>,
}

struct State {
    settings: Settings,
    file: Option<Open>,
    lines: Lines,
    series: Series,
    /// The position that was written last.
    written: Option<Position>,
}

struct Open {
    file: File,
    identity: (u64, u64),
    /// Bytes read.
    offset: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    identity: (u64, u64),
    offset: u64,
}

/// Cuts bytes into lines under a bound.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
    /// Inside of a line that is too long.
    skipping: bool,
}

impl Lines {
    fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Result<&[u8], ()>)) {
        while let Some(end) = memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.partial.len() + line.len() > limits::LINE {
                self.partial.clear();
                each(Err(()));
            } else if self.partial.is_empty() {
                each(Ok(line));
            } else {
                self.partial.extend_from_slice(line);
                each(Ok(&self.partial));
                self.partial.clear();
            }
        }
        if self.skipping {
            return;
        }
        if self.partial.len() + bytes.len() > limits::LINE {
            self.partial = Vec::new();
            self.skipping = true;
            each(Err(()));
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    /// The last line of a file that has ended without a line feed.
    fn end(&mut self, each: impl FnOnce(&[u8])) {
        self.skipping = false;
        let partial = std::mem::take(&mut self.partial);
        if !partial.is_empty() {
            each(&partial);
        }
    }
}

type Key = (usize, String, PackedLabels);

/// What was counted.
#[derive(Default)]
struct Series {
    cells: HashMap<Key, Cell>,
    skipped: u64,
    first_skip: Option<String>,
}

enum Cell {
    Number(f64),
    /// Counts per bucket (not cumulative), sum, count.
    Histogram(Vec<u64>, f64, u64),
}

impl Series {
    fn skip(&mut self, why: impl FnOnce() -> String) {
        self.skipped += 1;
        if self.first_skip.is_none() {
            self.first_skip = Some(why());
        }
    }

    fn line(&mut self, settings: &Settings, line: &[u8]) {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        for (at, metric) in settings.metrics.iter().enumerate() {
            let Some(captures) = metric.pattern.pattern.captures(&line) else { continue };
            let spec = &metric.pattern.metric;
            let counts = spec.kind == Kind::Counter && captures.name("value").is_none();
            let text = if counts { "1" } else { value_group(&captures) };
            let value = if counts { Some(1.0) } else { spec.value(text) };
            let name = metric.pattern.name(&captures);
            let Some(value) = value else {
                self.skip(|| format!("{name}: `{}` is no number", shortened(text, 40)));
                continue;
            };
            if spec.kind == Kind::Counter && (value < 0.0 || value.is_nan()) {
                self.skip(|| format!("{name}: a counter cannot grow by {value}"));
                continue;
            }
            let key = (at, name.into_owned(), metric.pattern.labels(&captures));
            let full = self.cells.len() >= settings.max_series;
            let cell = match self.cells.entry(key) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(_) if full => {
                    self.skip(|| "there are more series than `max_series` allows".to_owned());
                    continue;
                }
                std::collections::hash_map::Entry::Vacant(entry) => entry.insert(match spec.kind {
                    Kind::Histogram => Cell::Histogram(vec![0; metric.buckets.len()], 0.0, 0),
                    _ => Cell::Number(0.0),
                }),
            };
            match cell {
                Cell::Number(number) if spec.kind == Kind::Counter => *number += value,
                Cell::Number(number) => *number = value,
                Cell::Histogram(counts, sum, count) => {
                    if let Some(bucket) = metric.buckets.iter().position(|bound| value <= *bound) {
                        counts[bucket] += 1;
                    }
                    *sum += value;
                    *count += 1;
                }
            }
        }
    }

    fn reading(&mut self, settings: &Settings) -> Reading {
        let mut out = Builder::new(settings.max_series);
        self.show(settings, &mut out);
        let mut reading = out.finish();
        reading.skipped += std::mem::take(&mut self.skipped);
        reading.first_skip = self.first_skip.take().or(reading.first_skip);
        reading
    }

    fn show(&self, settings: &Settings, out: &mut Builder) {
        // A counter without labels is there before its first match, so that `rate` sees the first increase.
        for metric in &settings.metrics {
            let spec = &metric.pattern.metric;
            let plain = metric.pattern.labels.is_empty() && spec.name.references().next().is_none();
            if plain && spec.kind == Kind::Counter {
                let name = spec.name.expand(|_| None);
                if !self.cells.keys().any(|(_, known, _)| *known == name) {
                    out.put(&name, &spec.help, spec.kind, &[], 0.0);
                }
            }
        }
        for ((at, name, labels), cell) in &self.cells {
            let metric = &settings.metrics[*at];
            let spec = &metric.pattern.metric;
            let value = match cell {
                Cell::Number(number) => Value::Number(*number),
                Cell::Histogram(counts, sum, count) => {
                    let mut below = 0;
                    let buckets = metric.buckets.iter().zip(counts).map(|(bound, count)| {
                        below += count;
                        (*bound, below)
                    });
                    Value::Histogram(Histogram {
                        buckets: buckets.collect(),
                        sum: *sum,
                        count: *count,
                        native: None,
                    })
                }
            };
            out.add_value(name, &spec.help, spec.kind, labels.clone(), value);
        }
    }
}

fn identity(data: &std::fs::Metadata) -> (u64, u64) {
    (data.dev(), data.ino())
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        // Opening a named pipe would wait for a writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("no regular file"));
        }
        let file = File::open(path)?;
        let identity = identity(&file.metadata()?);
        Ok(Self { file, identity, offset: 0 })
    }

    fn seek(&mut self, offset: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        self.offset = offset;
        Ok(())
    }
}

impl State {
    /// Opens the file for the first time, where the last run left it.
    fn begin(&mut self) -> io::Result<()> {
        let known = self.settings.position_file.as_deref().and_then(Position::read);
        let mut open = Open::at(&self.settings.path)?;
        let size = open.file.metadata()?.len();
        match known {
            Some(known) if known.identity == open.identity && known.offset <= size => {
                open.seek(known.offset)?;
            }
            Some(known) => {
                // Rotated while nobody looked: its rest first, if it is still beside.
                let mut beside = self.settings.path.clone().into_os_string();
                beside.push(".1");
                if let Ok(mut rest) = Open::at(Path::new(&beside))
                    && rest.identity == known.identity
                {
                    rest.seek(known.offset)?;
                    self.file = Some(rest);
                    return Ok(());
                }
            }
            None if !self.settings.from_start => open.seek(size)?,
            None => {}
        }
        self.file = Some(open);
        Ok(())
    }

    /// Reads what is new. False when there is more than one look takes.
    fn look(&mut self) -> io::Result<bool> {
        if self.file.is_none() {
            self.begin()?;
        }
        let mut piece = vec![0; limits::LOG_PIECE.min(256 << 10)];
        let mut total = 0;
        loop {
            let Some(open) = &mut self.file else { return Ok(true) };
            if open.file.metadata()?.len() < open.offset {
                // Truncated in place; what was there is gone.
                self.lines = Lines::default();
                open.seek(0)?;
            }
            let read = open.file.read(&mut piece)?;
            open.offset += read as u64;
            if read > 0 {
                self.feed(&piece[..read]);
                total += read;
                if total >= MOST_AT_ONCE {
                    return Ok(false);
                }
                continue;
            }
            let current = match std::fs::metadata(&self.settings.path) {
                Ok(data) => identity(&data),
                // Between the two steps of a rotation there is none.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                Err(error) => return Err(error),
            };
            if current == open.identity {
                return Ok(true);
            }
            let (settings, series) = (&self.settings, &mut self.series);
            self.lines.end(|line| series.line(settings, line));
            self.file = Some(Open::at(&self.settings.path)?);
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let (settings, series) = (&self.settings, &mut self.series);
        self.lines.feed(bytes, |line| match line {
            Ok(line) => series.line(settings, line),
            Err(()) => series.skip(|| format!("a line is longer than {} bytes", limits::LINE)),
        });
    }

    /// Writes down where the last whole line ended.
    fn remember(&mut self) {
        let (Some(path), Some(open)) = (&self.settings.position_file, &self.file) else { return };
        let offset = open.offset - self.lines.partial.len() as u64;
        let position = Position { identity: open.identity, offset };
        if self.written != Some(position) {
            match position.write(path) {
                Ok(()) => self.written = Some(position),
                Err(error) => self.series.skip(|| format!("{}: {error}", path.display())),
            }
        }
    }
}

impl Position {
    fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        Some(Self { identity: (next()?, next()?), offset: next()? })
    }

    fn write(self, path: &Path) -> io::Result<()> {
        let text = format!("{} {} {}\n", self.identity.0, self.identity.1, self.offset);
        common::fs::write_atomically(path, text.as_bytes(), 0o644)
    }
}

impl Tail {
    pub(super) fn new(settings: Settings) -> Self {
        Self(Arc::new(Mutex::new(State {
            settings,
            file: None,
            lines: Lines::default(),
            series: Series::default(),
            written: None,
        })))
    }
}

/// One look; true when there is nothing more to read at once.
async fn look(state: &Arc<Mutex<State>>) -> Result<bool, GatherError> {
    let state = Arc::clone(state);
    let looked = tokio::task::spawn_blocking(move || {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = state.look();
        state.remember();
        looked.map_err(|error| GatherError(format!("{}: {error}", state.settings.path.display())))
    });
    looked.await.map_err(|error| GatherError(error.to_string()))?
}

impl Gather for Tail {
    fn gather(&self) -> Gathering<'_> {
        Box::pin(async {
            look(&self.0).await?;
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let State { settings, series, .. } = &mut *state;
            Ok(series.reading(settings))
        })
    }

    fn read(&self, document: &[u8]) -> Option<Result<Reading, GatherError>> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut series = Series::default();
        document.split(|byte| *byte == b'\n').for_each(|line| series.line(&state.settings, line));
        Some(Ok(series.reading(&state.settings)))
    }

    fn start(self: Arc<Self>, shutdown: Shutdown) -> Starting {
        Box::pin(async move {
            let state = Arc::clone(&self.0);
            let until = shutdown.clone();
            shutdown.spawn(async move {
                loop {
                    // A file that is not there yet is waited for; the scrape says so.
                    let more = matches!(look(&state).await, Ok(false));
                    if more {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(POLL) => {}
                        () = until.triggered() => {
                            let _ = look(&state).await;
                            return;
                        }
                    }
                }
            });
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_do_not_depend_on_pieces(text in "[a\n]{0,40}", cuts in prop::collection::vec(0usize..40, 0..5)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let (mut lines, mut found, mut from) = (Lines::default(), Vec::new(), 0);
            for cut in cuts.into_iter().chain([text.len()]) {
                lines.feed(&text.as_bytes()[from..cut], |line| found.push(line.unwrap().to_vec()));
                from = cut;
            }
            let mut expected: Vec<Vec<u8>> = text.split('\n').map(|line| line.as_bytes().to_vec()).collect();
            let partial = expected.pop().unwrap_or_default();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(lines.partial, partial);
        }
    }

    #[test]
    fn a_long_line_is_left_out_and_the_next_one_is_read() {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for _ in 0..100 {
            lines.feed(&vec![b'x'; 1 << 20], |line| found.push(line.map(<[u8]>::to_vec)));
        }
        lines.feed(b"x\nnext\n", |line| found.push(line.map(<[u8]>::to_vec)));
        assert_eq!(found, [Err(()), Ok(b"next".to_vec())]);
        assert!(lines.partial.capacity() <= 2 * limits::LINE);
    }
}
