//! The command table: looked up once per request, so a flat hash table keyed by the upper-case name.

use super::Effect;
use super::kind::{Kind, is_dataless, is_server_specific, kind_of, runs_code};

/// The flags of `COMMAND` that routing needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// May change data.
    pub write: bool,
    /// Only reads.
    pub readonly: bool,
    /// May wait for other clients.
    pub blocking: bool,
    /// Is replicated although it is no write (`PUBLISH`).
    pub may_replicate: bool,
}

/// Where the search for keys begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// At this argument.
    Index(usize),
    /// Behind this word, searched from an argument on (from the end when negative).
    Keyword {
        /// The word, in capitals.
        word: String,
        /// First argument looked at.
        from: i32,
    },
    /// The server cannot say.
    Unknown,
}

/// Which arguments from there on are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Find {
    /// From the first to `last` (relative to it, or from the end when negative), every `step`-th.
    Range {
        /// Relative last position.
        last: i32,
        /// Distance of keys.
        step: usize,
        /// With `last == -1`: only the first 1/limit of the remaining arguments.
        limit: usize,
    },
    /// As many as an argument says.
    Counted {
        /// Position of the count, relative to the begin.
        count: usize,
        /// Position of the first key, relative to the begin.
        first: usize,
        /// Distance of keys.
        step: usize,
    },
    /// The server cannot say.
    Unknown,
}

/// One key specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpec {
    /// Whether these keys may be written.
    pub writes: bool,
    /// Whether there may be more keys than it finds.
    pub incomplete: bool,
    /// Where to begin.
    pub begin: Begin,
    /// What to take.
    pub find: Find,
}

/// One command or subcommand.
#[derive(Debug, Clone)]
pub struct Command {
    /// Lower-case name; `container|sub` for a subcommand.
    pub name: Box<str>,
    /// Flags.
    pub flags: Flags,
    /// What is special about it.
    pub kind: Kind,
    /// What it may do, as far as its name tells.
    pub effect: Effect,
    /// Where its keys are.
    pub specs: Vec<KeySpec>,
    /// Position of its only key, when that is all there is to say.
    pub only_key: Option<usize>,
    /// It runs code of the client's on the server, which may take any time.
    pub runs_code: bool,
    /// The operator does not want it.
    pub denied: bool,
    subcommands: Vec<Command>,
}

impl Command {
    /// Makes an entry.
    pub fn new(name: &str, flags: Flags, specs: Vec<KeySpec>, subcommands: Vec<Command>) -> Self {
        let name = name.to_ascii_lowercase();
        let only_key = match specs.as_slice() {
            [
                KeySpec {
                    incomplete: false, begin: Begin::Index(at), find: Find::Range { last: 0, .. }, ..
                },
            ] => Some(*at),
            _ => None,
        };
        let effect = if is_dataless(&name) {
            Effect::PrimaryRead
        } else if !flags.readonly || flags.write || flags.may_replicate {
            Effect::Write
        } else if specs.is_empty()
            || specs.iter().any(|spec| spec.writes) && kind_of(&name) != Kind::ReadScript
            || is_server_specific(&name)
        {
            // A read that declares a written key caches something in it (PFCOUNT).
            Effect::PrimaryRead
        } else {
            Effect::Read
        };
        Self {
            kind: kind_of(&name),
            effect,
            only_key,
            flags,
            specs,
            runs_code: runs_code(&name),
            denied: false,
            subcommands,
            name: name.into(),
        }
    }

    /// Whether the second word may name a subcommand.
    pub fn has_subcommands(&self) -> bool {
        !self.subcommands.is_empty()
    }

    /// The subcommand `word`.
    pub fn subcommand(&self, word: &[u8]) -> Option<&Command> {
        self.subcommands.iter().find(|command| {
            command.name.rsplit('|').next().is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(word))
        })
    }
}

/// Commands by name.
#[derive(Debug, Clone)]
pub struct Table {
    commands: Vec<Command>,
    /// Open addressing; 0 is empty, otherwise the index into `commands` plus one.
    slots: Vec<u16>,
}

/// A server with more commands than this is not believed.
pub(super) const MAX_COMMANDS: usize = 8192;

impl Table {
    /// Builds a table; of two commands with one name the later wins.
    pub fn new(mut commands: Vec<Command>) -> Self {
        commands.truncate(MAX_COMMANDS);
        let size = (commands.len() * 4).next_power_of_two().max(64);
        let mut table = Self { commands, slots: vec![0; size] };
        for index in 0..table.commands.len() {
            let slot = table.slot(table.commands[index].name.as_bytes());
            table.slots[slot] = index as u16 + 1;
        }
        table
    }

    /// Marks commands as denied: by name, or `container|sub` for one subcommand.
    pub fn deny(&mut self, names: &[String]) {
        for name in names {
            let mut words = name.split('|');
            let (word, sub) = (words.next().unwrap_or_default(), words.next());
            let found = match self.slots[self.slot(word.as_bytes())] {
                0 => None,
                index => self.commands.get_mut(usize::from(index) - 1),
            };
            match (found, sub) {
                (Some(command), Some(sub)) => {
                    let named = |known: &&mut Command| {
                        known.name.rsplit('|').next().is_some_and(|known| known.eq_ignore_ascii_case(sub))
                    };
                    if let Some(subcommand) = command.subcommands.iter_mut().find(named) {
                        subcommand.denied = true;
                    }
                }
                (Some(command), None) => {
                    command.denied = true;
                    command.subcommands.iter_mut().for_each(|subcommand| subcommand.denied = true);
                }
                // A command that the server does not know needs no denying.
                (None, _) => {}
            }
        }
    }

    /// Number of commands.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The command `name`, whatever its case.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<&Command> {
        match self.slots[self.slot(name)] {
            0 => None,
            index => self.commands.get(usize::from(index) - 1),
        }
    }

    /// The slot that holds `name`, or the empty one where it would be.
    #[inline]
    fn slot(&self, name: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash(name) & mask;
        loop {
            match self.slots[slot] {
                0 => return slot,
                index if self.commands[usize::from(index) - 1].name.as_bytes().eq_ignore_ascii_case(name) => {
                    return slot;
                }
                _ => slot = (slot + 1) & mask,
            }
        }
    }
}

#[inline]
fn hash(name: &[u8]) -> usize {
    let mut hash = name.len() as u32;
    for &byte in name.iter().take(24) {
        hash = (hash ^ u32::from(byte | 0x20)).wrapping_mul(0x9e37_79b1).rotate_left(13);
    }
    hash as usize
}
