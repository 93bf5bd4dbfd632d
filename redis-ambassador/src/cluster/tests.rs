use super::*;
use crate::command::Request;
use crate::resp::{RequestFramer, RequestLimits, write_multibulk};
use proptest::prelude::*;

fn parts(words: &[&str]) -> Option<(Join, Vec<Part>)> {
    let mut frame = Vec::new();
    write_multibulk(&mut frame, words.iter().map(|word| word.as_bytes()));
    let mut framer = RequestFramer::new(RequestLimits::default());
    framer.advance(&frame).unwrap();
    split(words[0], &Request::new(&frame, framer.args()))
}

fn joined(join: Join, answers: &[&str]) -> String {
    let mut joined = Joined::new(join, answers.len());
    for (index, answer) in answers.iter().enumerate() {
        let (head, tail) = answer.as_bytes().split_at(answer.len() / 2);
        assert!(!joined.push(index, head, false));
        assert_eq!(joined.push(index, tail, true), index + 1 == answers.len());
    }
    String::from_utf8(joined.finish()).unwrap()
}

const NODES: &str = "aaa 127.0.0.1:7001@17001,host1 myself,master - 0 0 1 connected 0-5460 [100->-bbb]\n\
    bbb 127.0.0.1:7002@17002 master - 0 1 2 connected 5461-10922\n\
    ccc 127.0.0.1:7003@17003 master - 0 1 3 connected 10923-16382 16383\n\
    ddd 127.0.0.1:7004@17004 slave bbb 0 1 2 connected\n\
    eee :0@0 slave,noaddr ccc 0 1 3 disconnected\n\
    nonsense\n";

fn by_port(_: usize, node: &Node) -> Option<usize> {
    (node.port != 0).then(|| usize::from(node.port) - 7001)
}

#[test]
fn nodes_become_a_map() {
    let nodes = parse_nodes(NODES);
    assert_eq!(nodes.len(), 5);
    assert!(nodes[0].myself && nodes[4].failed && nodes[2].slots == [(10923, 16382), (16383, 16383)]);
    let map = SlotMap::new([(0, nodes.as_slice())].into_iter(), by_port);
    assert_eq!([0, 5461, 16383].map(|slot| map.owner(slot)), [Some(0), Some(1), Some(2)]);
    assert_eq!((map.primaries(), map.replicas(1), map.followed(3)), (&[0, 1, 2][..], &[3][..], Some(1)));
    assert!(map.is_complete());
}

#[test]
fn the_higher_epoch_wins() {
    let old = parse_nodes(NODES);
    let new = parse_nodes("ddd 127.0.0.1:7004@1 myself,master - 0 0 9 connected 5461-10922\n");
    for views in [[(0, old.as_slice()), (3, &new)], [(3, new.as_slice()), (0, &old)]] {
        let map = SlotMap::new(views.into_iter(), by_port);
        assert_eq!((map.owner(6000), map.owner(1)), (Some(3), Some(0)));
        assert!(map.followed(3).is_none());
    }
    let mut map = SlotMap::new([(0, old.as_slice())].into_iter(), by_port);
    assert!(map.learn(1, 3) && !map.learn(1, 3) && map.owns(3));
}

#[test]
fn redirections_are_read() {
    assert_eq!(
        Redirect::parse(b"-MOVED 3999 10.0.0.1:6381\r\n"),
        Some(Redirect::Moved(3999, "10.0.0.1", 6381))
    );
    assert_eq!(Redirect::parse(b"-ASK 1 ::1:7\r\n"), Some(Redirect::Ask(1, "::1", 7)));
    assert_eq!(Redirect::parse(b"-MOVED 1 :7\r\n"), Some(Redirect::Moved(1, "", 7)));
    assert_eq!(Redirect::parse(b"-CLUSTERDOWN The cluster is down\r\n"), Some(Redirect::Later));
    for line in
        [&b"-MOVED\r\n"[..], b"-MOVED 99999 a:1\r\n", b"-ERR x\r\n", b"-MOVED x y\r\n", b"-ASK 1 a\r\n"]
    {
        assert_eq!(Redirect::parse(line), None);
    }
}

#[test]
fn requests_are_split_by_slot() {
    let (join, found) = parts(&["mset", "{a}1", "x", "b", "y", "{a}2", "z"]).unwrap();
    assert_eq!((join, found.len()), (Join::First, 2));
    assert!(found[0].frame.starts_with(b"*5\r\n") && found[1].frame.starts_with(b"*3\r\n"));
    let (join, _) = parts(&["mget", "a", "b", "a"]).unwrap();
    assert_eq!(join, Join::Place(vec![vec![0, 2], vec![1]]));
    assert!(parts(&["mset", "a", "1", "b"]).is_none() && parts(&["sinter", "a", "b"]).is_none());
}

#[test]
fn answers_are_joined() {
    assert_eq!(joined(Join::Sum, &[":1\r\n", ":2\r\n"]), ":3\r\n");
    assert_eq!(joined(Join::Sum, &[":1\r\n", "-NOPERM x\r\n"]), "-NOPERM x\r\n");
    assert_eq!(joined(Join::Concat, &["*1\r\n$1\r\na\r\n", "*0\r\n"]), "*1\r\n$1\r\na\r\n");
    let place = Join::Place(vec![vec![0, 2], vec![1]]);
    let answers = ["*2\r\n$1\r\na\r\n$-1\r\n", "*1\r\n$1\r\nb\r\n"];
    assert_eq!(joined(place, &answers), "*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n");
    assert_eq!(joined(Join::FirstFound, &["$-1\r\n", "$1\r\nk\r\n"]), "$1\r\nk\r\n");
    assert_eq!(joined(Join::FirstGood, &["-NOTBUSY x\r\n", "+OK\r\n"]), "+OK\r\n");
    assert_eq!(joined(Join::FirstGood, &["-NOTBUSY x\r\n", "-NOTBUSY y\r\n"]), "-NOTBUSY x\r\n");
    assert!(joined(Join::Concat, &["+OK\r\n"]).starts_with("-ERR"));
}

#[test]
fn cursors_go_from_shard_to_shard() {
    let shards = [0, 5461];
    let told = |slot, answer: &str| -> u64 {
        let text = joined(scan_next(slot, &shards), &[answer]);
        text.split("\r\n").nth(2).unwrap().parse().unwrap()
    };
    assert_eq!(scan_cursor(0, &shards), Some((0, 0)));
    let cursor = told(0, "*2\r\n$1\r\n0\r\n*0\r\n");
    assert_eq!(scan_cursor(cursor, &shards), Some((5461, 0)));
    let cursor = told(5461, "*2\r\n$2\r\n17\r\n*1\r\n$1\r\nk\r\n");
    assert_eq!(scan_cursor(cursor, &shards), Some((5461, 17)));
    // It means the same when the slots are cut in another way.
    assert_eq!(scan_cursor(cursor, &[0, 100]), Some((5461, 17)));
    assert_eq!(told(5461, "*2\r\n$1\r\n0\r\n*0\r\n"), 0);
    assert!(i64::try_from(told(16_383, "*2\r\n$2\r\n17\r\n*0\r\n")).is_ok(), "clients may read it as signed");
    assert_eq!(scan_cursor(0, &[]), None);
    assert_eq!(scan_cursor(u64::MAX, &shards), None);
}

proptest! {
    #[test]
    fn nonsense_never_panics(text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let nodes = parse_nodes(&text);
        let _ = SlotMap::new([(0, nodes.as_slice())].into_iter(), by_port);
        let _ = Redirect::parse(&bytes);
        for join in [Join::Sum, Join::Concat, Join::Place(vec![vec![0]]), scan_next(1, &[1, 9])] {
            let mut joined = Joined::new(join, 1);
            joined.push(0, &bytes, true);
            let _ = joined.has_nil(0, b"");
            let _ = joined.finish();
        }
    }

    #[test]
    fn every_key_lands_in_one_part(keys in proptest::collection::vec("[a-e{}]{0,4}", 1..20)) {
        let words: Vec<&str> = std::iter::once("mget").chain(keys.iter().map(String::as_str)).collect();
        let (Join::Place(positions), found) = parts(&words).unwrap() else { panic!("mget is placed") };
        let mut all: Vec<usize> = positions.concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..keys.len()).collect::<Vec<_>>());
        prop_assert_eq!(positions.len(), found.len());
    }
}
