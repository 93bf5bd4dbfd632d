//! One client's stream through the state machine of its session, cut anywhere, with servers that agree or refuse as
//! they like: the same plans, never a read on a replica inside of a transaction, and every answer made here is one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_ambassador::command::{Effect, Request, Table};
use redis_ambassador::resp::{ReplyFramer, RequestFramer, RequestLimits, Step, inline_to_multibulk};
use redis_ambassador::session::{Plan, Session};
use std::sync::LazyLock;

static TABLE: LazyLock<Table> = LazyLock::new(Table::builtin);

struct Client {
    session: Session,
    /// What servers do: a bit for each request, used in turns.
    servers: u64,
    plans: Vec<String>,
    ended: bool,
}

impl Client {
    fn say(&mut self, frame: &[u8]) {
        let mut framer = RequestFramer::new(RequestLimits::default());
        assert_eq!(framer.advance(frame), Ok(Step::Request(frame.len())));
        let request = Request::new(frame, framer.args());
        let classified = TABLE.classify(&request);
        self.servers = self.servers.rotate_left(2);
        let (agrees, busy) = (self.servers & 1 != 0, self.servers & 2 != 0);
        let (inside, raw) = (self.session.in_multi(), self.session.is_raw());
        let plan = self.session.plan(&TABLE, &request, &classified, busy);
        self.plans.push(format!("{plan:?}"));
        if raw {
            assert!(matches!(plan, Plan::Raw | Plan::Quit), "{plan:?}");
        } else if inside {
            assert!(matches!(plan, Plan::Own | Plan::Raw | Plan::Reset | Plan::Quit), "{plan:?}");
        }
        match plan {
            Plan::Shared(effect) => {
                assert!(!self.session.in_transaction());
                assert!(effect == Effect::Read || !self.session.dies_with_own());
            }
            Plan::Answer(answer) => {
                let chunk = ReplyFramer::new().advance(&answer);
                assert!(chunk.is_ok_and(|chunk| chunk.done && chunk.taken == answer.len()), "{answer:?}");
            }
            Plan::Switch(switch, replacement) => {
                if !replacement.is_empty() {
                    let mut framer = RequestFramer::new(RequestLimits::default());
                    assert_eq!(framer.advance(&replacement), Ok(Step::Request(replacement.len())));
                }
                if agrees {
                    let profile = &mut self.session.profile;
                    profile.db = switch.db.unwrap_or(profile.db);
                    profile.resp3 = switch.resp3.unwrap_or(profile.resp3);
                }
            }
            Plan::Raw => assert!(self.session.is_raw() && self.session.keeps_own()),
            Plan::Reset => {
                self.session.reset();
                assert!(!self.session.keeps_own());
            }
            Plan::Quit => self.ended = true,
            Plan::Own | Plan::Wait | Plan::Nothing => {}
        }
        for words in self.session.replay() {
            assert!(words.len() > 2);
        }
    }
}

fn plans(stream: &[u8], piece: usize, servers: u64) -> Vec<String> {
    let mut client = Client { session: Session::new(), servers, plans: Vec::new(), ended: false };
    let mut framer = RequestFramer::new(RequestLimits::default());
    let (mut start, mut there) = (0, 0);
    while !client.ended {
        let length = match framer.advance(&stream[start..there]) {
            Ok(Step::Incomplete) if there == stream.len() => break,
            Ok(Step::Incomplete) => {
                there = (there + piece).min(stream.len());
                continue;
            }
            Ok(Step::Request(length)) => {
                client.say(&stream[start..start + length]);
                length
            }
            Ok(Step::Inline(length)) => {
                if let Ok(Some(frame)) = inline_to_multibulk(&stream[start..start + length]) {
                    client.say(&frame);
                }
                length
            }
            Ok(Step::Nothing(length)) => length,
            Err(_) => break,
        };
        start += length;
        framer.reset();
    }
    client.plans
}

fuzz_target!(|input: (u8, u64, &[u8])| {
    let (piece, servers, stream) = input;
    let whole = plans(stream, stream.len().max(1), servers);
    assert_eq!(whole, plans(stream, usize::from(piece) + 1, servers));
});
