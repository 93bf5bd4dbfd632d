//! The table used until a server has told its own: Redis 7.0's, as compact text.
//!
//! One command a line: name, arity, flags (`w`rite, `r`eadonly, `b`locking, `-` none; further letters are not needed
//! here), key specifications. A specification reads `W?i1:r-1,2,0`: writes, incomplete, begins at argument 1, range
//! with last -1, step 2, limit 0; `k` begins behind a keyword, `n` is a counted find, `u` unknown.

use super::table::{Begin, Command, Find, Flags, KeySpec, Table};

const BUILTIN: &str = include_str!("builtin.txt");

impl Table {
    /// Redis 7.0's commands.
    pub fn builtin() -> Self {
        let mut commands: Vec<Command> = Vec::new();
        let mut lines = BUILTIN.lines().peekable();
        while let Some(line) = lines.next() {
            let mut subcommands = Vec::new();
            let name = line.split(' ').next().unwrap_or_default();
            // The file is sorted, so that subcommands follow their container.
            while let Some(sub) =
                lines.next_if(|next| next.split('|').next() == Some(name) && next.contains('|'))
            {
                subcommands.extend(command(sub, Vec::new()));
            }
            commands.extend(command(line, subcommands));
        }
        Self::new(commands)
    }
}

fn command(line: &str, subcommands: Vec<Command>) -> Option<Command> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let _arity = words.next()?;
    let letters = words.next()?;
    let flags = Flags {
        write: letters.contains('w'),
        readonly: letters.contains('r'),
        blocking: letters.contains('b'),
        may_replicate: letters.contains('y'),
    };
    Some(Command::new(name, flags, words.filter_map(spec).collect(), subcommands))
}

fn spec(text: &str) -> Option<KeySpec> {
    let writes = text.starts_with('W');
    let rest = text.get(1..)?;
    let incomplete = rest.starts_with('?');
    let (begin, find) = rest.trim_start_matches('?').split_once(':')?;
    let begin = match begin.split_at_checked(1)? {
        ("i", index) => Begin::Index(index.parse().ok()?),
        ("k", keyword) => {
            let (word, from) = keyword.split_once(',')?;
            Begin::Keyword { word: word.to_owned(), from: from.parse().ok()? }
        }
        _ => Begin::Unknown,
    };
    let (letter, numbers) = find.split_at_checked(1)?;
    let mut numbers = numbers.split(',').map_while(|number| number.parse::<i32>().ok());
    let mut next = || numbers.next().unwrap_or(0);
    let find = match letter {
        "r" => Find::Range { last: next(), step: next().max(1) as usize, limit: next().max(0) as usize },
        "n" => Find::Counted {
            count: next().max(0) as usize,
            first: next().max(0) as usize,
            step: next().max(1) as usize,
        },
        _ => Find::Unknown,
    };
    Some(KeySpec { writes, incomplete, begin, find })
}
