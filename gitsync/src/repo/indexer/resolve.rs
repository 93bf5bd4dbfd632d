//! The second pass: the names of objects that are stored as differences.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use flate2::{Decompress, FlushDecompress, Status};
use sha1::Digest as _;
use tokio_util::sync::CancellationToken;

use super::stream::{Entry, What};
use super::{MAX_DELTA_OBJECT, bad, delta, finish_hash, hasher};
use crate::protocol::ObjectId;
use crate::repo::RepoError;
use crate::repo::checkout::thread_count;
use crate::repo::objects::Kind;
use crate::repo::packfile::Placed;

/// Finds the names of all objects of a pack that lies on disk.
pub(super) struct Resolver<'a> {
    file: File,
    entries: Vec<Entry>,
    /// Base and what builds on it, by number, sorted.
    pairs: Vec<(u32, u32)>,
    /// What builds on a name whose object hasn't been met yet.
    by_name: Mutex<HashMap<ObjectId, Vec<u32>>>,
    end: u64,
    cancel: &'a CancellationToken,
}

type Named = Vec<(u32, ObjectId)>;

impl<'a> Resolver<'a> {
    pub(super) fn new(
        file: &File,
        entries: Vec<Entry>,
        names: Vec<(u32, ObjectId)>,
        end: u64,
        cancel: &'a CancellationToken,
    ) -> Result<Self, RepoError> {
        let file = file.try_clone().map_err(|e| bad(format!("it can't be read again ({e})")))?;
        let mut pairs = Vec::new();
        for (number, entry) in (0..).zip(&entries) {
            if let What::OnOffset(base) = entry.what {
                let base = entries
                    .binary_search_by_key(&base, |entry| entry.offset)
                    .map_err(|_| bad("a difference to something that is no object"))?;
                pairs.push((u32::try_from(base).map_err(|_| bad("too many objects"))?, number));
            }
        }
        pairs.sort_unstable();
        let mut by_name: HashMap<ObjectId, Vec<u32>> = HashMap::new();
        for (number, name) in names {
            by_name.entry(name).or_default().push(number);
        }
        Ok(Self { file, entries, pairs, by_name: Mutex::new(by_name), end, cancel })
    }

    /// Resolves everything that builds on objects of the pack itself.
    pub(super) fn run(&mut self) -> Result<(), RepoError> {
        let roots: Vec<u32> = (0..)
            .zip(&self.entries)
            .filter(|(number, entry)| {
                matches!(entry.what, What::Whole(_))
                    && (!self.children(*number).is_empty() || self.waits_for(entry.id))
            })
            .map(|(number, _)| number)
            .collect();
        let (this, next) = (&*self, AtomicUsize::new(0));
        let work = || -> Result<Named, RepoError> {
            let mut worker = Worker::new(this);
            while let Some(&root) = roots.get(next.fetch_add(1, Ordering::Relaxed)) {
                let found = worker.root(root);
                found.inspect_err(|_| next.store(roots.len(), Ordering::Relaxed))?;
            }
            Ok(worker.named)
        };
        let threads = thread_count(self.pairs.len());
        let named = std::thread::scope(|scope| -> Result<Named, RepoError> {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut all = work();
            for other in others {
                let theirs = other.join().unwrap_or_else(|_| Err(bad("a thread panicked over it")));
                all = all.and_then(|mut all| theirs.map(|theirs| all.extend(theirs)).map(|()| all));
            }
            all
        })?;
        self.note(named);
        Ok(())
    }

    /// Resolves what builds on an object that isn't in the pack.
    pub(super) fn run_from(&mut self, id: ObjectId, kind: Kind, data: Vec<u8>) -> Result<(), RepoError> {
        let mut worker = Worker::new(self);
        let children = Children { range: 0..0, named: self.take_waiting(id) };
        worker.descend(Frame { kind, data, children })?;
        let named = worker.named;
        self.note(named);
        Ok(())
    }

    /// Whether something builds on objects that haven't been met.
    pub(super) fn is_missing_bases(&self) -> bool {
        !self.by_name.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Those objects.
    pub(super) fn wanted(&self) -> Vec<ObjectId> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Every object with its place.
    ///
    /// # Errors
    /// When one has no name, which a sound pack can't bring about.
    pub(super) fn finish(self) -> Result<Vec<Placed>, RepoError> {
        let placed = |entry: &Entry| {
            (entry.id != ObjectId::ZERO).then_some(Placed {
                id: entry.id,
                crc: entry.crc,
                offset: entry.offset,
            })
        };
        self.entries
            .iter()
            .map(placed)
            .collect::<Option<_>>()
            .ok_or_else(|| bad("a difference without a base"))
    }

    fn note(&mut self, named: Named) {
        for (number, id) in named {
            self.entries[number as usize].id = id;
        }
    }

    /// Where in `pairs` the differences to an object are.
    fn children(&self, base: u32) -> Range<usize> {
        let start = self.pairs.partition_point(|(number, _)| *number < base);
        let count = self.pairs[start..].iter().take_while(|(number, _)| *number == base).count();
        start..start + count
    }

    fn waits_for(&self, id: ObjectId) -> bool {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    fn take_waiting(&self, id: ObjectId) -> Vec<u32> {
        let mut waiting = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() { Vec::new() } else { waiting.remove(&id).unwrap_or_default() }
    }
}

/// What builds on an object and is still to be done.
struct Children {
    range: Range<usize>,
    named: Vec<u32>,
}

impl Children {
    fn next(&mut self, pairs: &[(u32, u32)]) -> Option<u32> {
        self.range.next().map(|at| pairs[at].1).or_else(|| self.named.pop())
    }

    fn is_empty(&self) -> bool {
        self.range.is_empty() && self.named.is_empty()
    }
}

/// An object whose differences are being resolved.
struct Frame {
    kind: Kind,
    data: Vec<u8>,
    children: Children,
}

/// One thread's buffers and results.
struct Worker<'a> {
    resolver: &'a Resolver<'a>,
    inflate: Decompress,
    packed: Vec<u8>,
    delta: Vec<u8>,
    /// Room of objects that are done with.
    spare: Vec<u8>,
    named: Named,
}

impl<'a> Worker<'a> {
    fn new(resolver: &'a Resolver<'a>) -> Self {
        Self {
            resolver,
            inflate: Decompress::new(true),
            packed: Vec::new(),
            delta: Vec::new(),
            spare: Vec::new(),
            named: Vec::new(),
        }
    }

    fn root(&mut self, number: u32) -> Result<(), RepoError> {
        let entry = self.resolver.entries[number as usize];
        let What::Whole(kind) = entry.what else { return Ok(()) };
        let mut data = std::mem::take(&mut self.spare);
        self.content(number, &mut data)?;
        let children = self.children(number, entry.id);
        self.descend(Frame { kind, data, children })
    }

    fn children(&self, number: u32, id: ObjectId) -> Children {
        Children { range: self.resolver.children(number), named: self.resolver.take_waiting(id) }
    }

    /// Depth first; an object is let go when its last difference is taken up.
    fn descend(&mut self, root: Frame) -> Result<(), RepoError> {
        let mut stack = vec![root];
        while let Some(top) = stack.last_mut() {
            let Some(number) = top.children.next(&self.resolver.pairs) else {
                if let Some(done) = stack.pop() {
                    self.spare = done.data;
                }
                continue;
            };
            if self.resolver.cancel.is_cancelled() {
                return Err(RepoError::Cancelled);
            }
            let (kind, last) = (top.kind, top.children.is_empty());
            let mut delta = std::mem::take(&mut self.delta);
            self.content(number, &mut delta)?;
            let mut data = std::mem::take(&mut self.spare);
            delta::apply(&top.data, &delta, &mut data)?;
            self.delta = delta;
            if last && let Some(done) = stack.pop() {
                self.spare = done.data;
            }
            let mut hash = hasher(kind, data.len() as u64);
            hash.update(&data);
            let id = finish_hash(hash);
            self.named.push((number, id));
            let children = self.children(number, id);
            if children.is_empty() {
                self.spare = data;
            } else {
                stack.push(Frame { kind, data, children });
            }
        }
        Ok(())
    }

    /// Unpacks an object, or a difference, as it lies in the pack.
    fn content(&mut self, number: u32, out: &mut Vec<u8>) -> Result<(), RepoError> {
        let entry = self.resolver.entries[number as usize];
        if entry.size > MAX_DELTA_OBJECT {
            return Err(RepoError::TooMuch { what: "bytes in one object", limit: 1 << 30 });
        }
        let next =
            self.resolver.entries.get(number as usize + 1).map_or(self.resolver.end, |next| next.offset);
        let start = entry.offset + u64::from(entry.header);
        let (packed, size) = (usize::try_from(next - start), usize::try_from(entry.size));
        let (Ok(packed), Ok(size)) = (packed, size) else {
            return Err(bad("an object too large for this machine"));
        };
        self.packed.resize(packed, 0);
        self.resolver
            .file
            .read_exact_at(&mut self.packed, start)
            .map_err(|e| bad(format!("it can't be read again ({e})")))?;
        out.clear();
        // One more, since an empty buffer would count as a full one.
        out.reserve_exact(size + 1);
        self.inflate.reset(true);
        let status = self.inflate.decompress_vec(&self.packed, out, FlushDecompress::Finish);
        if matches!(status, Ok(Status::StreamEnd)) && out.len() == size {
            Ok(())
        } else {
            Err(bad("it changed while it was read"))
        }
    }
}
