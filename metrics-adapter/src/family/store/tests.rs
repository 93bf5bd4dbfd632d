use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::family::{Labels, Visitor, Walk};

const ROOM: Limits = Limits { series: 1000, bytes: usize::MAX };

fn labels(pairs: &[(&str, &str)]) -> PackedLabels {
    PackedLabels::new(pairs.iter().copied())
}

fn resolve(
    store: &mut Store,
    name: &str,
    pairs: &[(&str, &str)],
    behaviour: &Behaviour,
) -> Result<SeriesId, Refusal> {
    store.resolve(name, labels(pairs), &Plan { help: &"help".into(), behaviour, ttl: 0 }, 0)
}

fn summary() -> Behaviour {
    Behaviour::Summary(Arc::default())
}

fn histogram() -> Behaviour {
    Behaviour::Histogram(Arc::default())
}

#[derive(Default)]
struct Page(Vec<String>);

impl Visitor for Page {
    fn family(&mut self, name: &str, _: &str, kind: Kind) {
        self.0.push(format!("{name} {kind}"));
    }
    fn sample(&mut self, labels: Labels<'_>, value: &Value) {
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let value = match value {
            Value::Number(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        self.0.push(format!("{} {value}", labels.join(",")));
    }
}

fn page(store: &Arc<Mutex<Store>>, index: &mut Index) -> Vec<String> {
    let entries = index.refresh(store);
    let mut walk = StoreWalk::new(Arc::clone(store), entries, 0, Arc::new(AtomicUsize::new(0)));
    let mut page = Page::default();
    while walk.peek().is_some() {
        walk.step(&mut page);
    }
    page.0
}

#[test]
fn counters_are_exact_and_gauges_move() {
    let mut store = Store::new(ROOM, &[]);
    let counter = resolve(&mut store, "c", &[], &Behaviour::Counter).unwrap();
    for value in [9_007_199_254_740_992.0, 1.0, 1.0, 0.5, 0.5] {
        assert!(store.update(counter, Event::Count(value), 1.0, 0));
    }
    assert_eq!(store.read(counter, 0), Some(Value::Number(9_007_199_254_740_995.0_f64)));
    let gauge = resolve(&mut store, "g", &[], &Behaviour::Gauge).unwrap();
    store.update(gauge, Event::Set(10.0), 1.0, 0);
    store.update(gauge, Event::Move(-2.0), 2.0, 0);
    assert_eq!(store.read(gauge, 0), Some(Value::Number(6.0)));
}

#[test]
fn one_name_has_one_type() {
    let mut store = Store::new(ROOM, &["own_total"]);
    assert!(resolve(&mut store, "a", &[], &Behaviour::Counter).is_ok());
    assert!(resolve(&mut store, "a", &[("x", "1")], &Behaviour::Counter).is_ok());
    for (name, behaviour) in [("a", Behaviour::Gauge), ("a", summary()), ("own_total", Behaviour::Counter)] {
        assert_eq!(resolve(&mut store, name, &[], &behaviour), Err(Refusal::Conflict), "{name}");
    }
    assert!(resolve(&mut store, "t", &[], &histogram()).is_ok());
    for name in ["t_sum", "t_count", "t_bucket"] {
        assert_eq!(resolve(&mut store, name, &[], &Behaviour::Gauge), Err(Refusal::Conflict), "{name}");
    }
    assert!(resolve(&mut store, "u_sum", &[], &Behaviour::Counter).is_ok());
    assert_eq!(resolve(&mut store, "u", &[], &summary()), Err(Refusal::Conflict));
    assert!(resolve(&mut store, "v_bucket", &[], &Behaviour::Counter).is_ok());
    assert!(resolve(&mut store, "v", &[], &summary()).is_ok());
    assert_eq!(resolve(&mut store, "w", &[("quantile", "1")], &summary()), Err(Refusal::ReservedLabel));
    assert_eq!(resolve(&mut store, "w", &[("le", "1")], &histogram()), Err(Refusal::ReservedLabel));
    assert_eq!(
        resolve(&mut store, "w", &[("__name__", "1")], &Behaviour::Gauge),
        Err(Refusal::ReservedLabel)
    );
    assert!(resolve(&mut store, "w", &[("le", "1")], &Behaviour::Gauge).is_ok());
}

#[test]
fn limits_refuse_only_what_is_new() {
    let mut store = Store::new(Limits { series: 2, bytes: usize::MAX }, &[]);
    let first = resolve(&mut store, "a", &[], &Behaviour::Counter).unwrap();
    resolve(&mut store, "b", &[], &Behaviour::Counter).unwrap();
    assert_eq!(resolve(&mut store, "c", &[], &Behaviour::Counter), Err(Refusal::SeriesLimit));
    assert_eq!(resolve(&mut store, "a", &[], &Behaviour::Counter), Ok(first));
    let mut store = Store::new(Limits { series: 100, bytes: 500 }, &[]);
    let admitted =
        (0..100).filter(|n| resolve(&mut store, &format!("n{n}"), &[], &Behaviour::Counter).is_ok());
    assert!((1..10).contains(&admitted.count()));
}

#[test]
fn expiry_frees_names_and_ids() {
    let mut store = Store::new(ROOM, &[]);
    let help: Arc<str> = "help".into();
    let plan = Plan { help: &help, behaviour: &Behaviour::Counter, ttl: 1000 };
    let id = store.resolve("a", labels(&[]), &plan, 0).unwrap();
    let kept = resolve(&mut store, "b", &[], &Behaviour::Counter).unwrap();
    store.update(id, Event::Count(5.0), 1.0, 500);
    assert_eq!(store.expire(0, 100, 1500), None);
    assert_eq!(store.len(), 2);
    store.expire(0, 100, 1501);
    assert_eq!((store.len(), store.families_created(Kind::Counter)), (1, 2));
    assert!(!store.update(id, Event::Count(1.0), 1.0, 0));
    assert!(store.update(kept, Event::Count(1.0), 1.0, 0));
    let again = resolve(&mut store, "a", &[], &Behaviour::Gauge).unwrap();
    assert_ne!(again, id);
    assert_eq!(store.read(id, 0), None);
    assert_eq!(store.read(again, 0), Some(Value::Number(0.0)));
}

#[test]
fn bytes_return_to_zero() {
    let mut store = Store::new(ROOM, &[]);
    let help: Arc<str> = "help".into();
    for (at, behaviour) in
        [summary(), histogram(), Behaviour::Set(1000), Behaviour::Counter].iter().enumerate()
    {
        let plan = Plan { help: &help, behaviour, ttl: 1 };
        let id = store.resolve(&format!("n{at}"), labels(&[("a", "b")]), &plan, 0).unwrap();
        let event = match behaviour {
            Behaviour::Set(_) => Event::Member(b"x"),
            Behaviour::Counter => Event::Count(1.0),
            _ => Event::Observe(1.0, 700),
        };
        store.update(id, event, 1.0, 0);
    }
    assert!(store.bytes() > 10_000);
    store.expire(0, 100, 100);
    assert_eq!((store.bytes(), store.len()), (0, 0));
}

#[test]
fn pages_are_sorted_and_follow_changes() {
    let store = Arc::new(Mutex::new(Store::new(ROOM, &[])));
    let mut index = Index::default();
    let add = |name: &str, pairs: &[(&str, &str)]| {
        resolve(&mut store.lock().unwrap(), name, pairs, &Behaviour::Counter).unwrap();
    };
    add("b", &[("x", "2")]);
    add("b", &[("x", "1")]);
    add("b", &[]);
    add("a", &[("k", "v")]);
    assert_eq!(page(&store, &mut index), ["a counter", "k=v 0", "b counter", " 0", "x=1 0", "x=2 0"]);
    add("aa", &[]);
    (0..600).for_each(|n| add("c", &[("n", &format!("{n:03}"))]));
    let lines = page(&store, &mut index);
    assert_eq!(lines.len(), 6 + 2 + 601);
    assert_eq!((&*lines[2], &*lines[608]), ("aa counter", "n=599 0"));
}
