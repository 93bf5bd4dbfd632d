use proptest::prelude::*;

use super::*;
use std::time::Duration;

const APP: App = App {
    settings: &[
        Setting::text("period", "DURATION", "Pause").default("10s").extra_env(&["OLD_PERIOD"]),
        Setting::list("replica", "ADDR", "A replica"),
        Setting::switch("one-time", "Leave after one"),
        Setting::text("web.listen-address", "ADDR", "Where").default(":9102"),
    ],
    ..App::new("demo", "DEMO", "A demo")
};

fn write(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn later_layers_win() {
    let file = write("period: 1m\nreplica: [a:1, b:2]\nweb:\n  listen-address: :1\n");
    let mut layers = Layers::new(&APP);
    layers.file(file.path()).unwrap();
    layers.environment([("DEMO_PERIOD", "2m"), ("OLD_PERIOD", "3m")]);
    layers.flag("one-time", vec!["true".into()]).unwrap();
    let settings = layers.finish();
    assert_eq!(settings.value::<Duration>("period").unwrap(), Duration::from_secs(120));
    assert_eq!(settings.list::<String>("replica").unwrap(), ["a:1", "b:2"]);
    assert!(settings.value::<bool>("one-time").unwrap());
    assert_eq!(settings.value::<ListenAddr>("web.listen-address").unwrap().port, 1);
    assert_eq!(settings.origin("period"), Some(&Origin::Environment("DEMO_PERIOD".into())));
}

#[test]
fn an_unknown_key_names_file_line_and_neighbour() {
    let file = write("# comment\nperiod: 1m\nreplcia: x\n");
    let error = Layers::new(&APP).file(file.path()).unwrap_err().to_string();
    assert!(error.ends_with(":3: unknown key `replcia`, did you mean `replica`?"), "{error}");
}

#[test]
fn a_bad_value_names_its_place() {
    let file = write("one-time: false\nperiod: 5\n");
    let mut layers = Layers::new(&APP);
    layers.file(file.path()).unwrap();
    let error = layers.finish().value::<Duration>("period").unwrap_err().to_string();
    assert!(error.contains(":2: period: `5` is not a duration"), "{error}");

    let mut layers = Layers::new(&APP);
    layers.environment([("DEMO_PERIOD", "x")]);
    let error = layers.finish().value::<Duration>("period").unwrap_err().to_string();
    assert!(error.starts_with("environment variable DEMO_PERIOD: "), "{error}");
}

#[test]
fn broken_yaml_names_the_line() {
    let file = write("period: 1m\n  bad: [\n");
    let error = Layers::new(&APP).file(file.path()).unwrap_err();
    assert!(matches!(error, ConfigError::File { line: Some(_), .. }), "{error}");
}

#[test]
fn values_are_the_text_that_is_written() {
    let all = |text: &str| {
        file::parse(text, None).unwrap().0.into_iter().flat_map(|value| value.texts).collect::<Vec<_>>()
    };
    assert_eq!(
        all("a: 1.50\nb: 017\nc: no\nd: \"~\"\ne: ~\nf:\ng: 'x: y'\n"),
        ["1.50", "017", "no", "~", "", "", "x: y"]
    );
    assert_eq!(all("a: &x 1m\nb: *x\nc: [*x, 2m]\n"), ["1m", "1m", "1m", "2m"]);
    assert_eq!(all("a: |\n  one\n  two\nb: >-\n  three\n  four\n"), ["one\ntwo\n", "three four"]);
    assert_eq!(all("---\n# word\na: 1 # more\n...\n"), ["1"]);
}

#[test]
fn yaml_that_is_no_map_of_settings_names_the_line() {
    for (text, line, reason) in [
        ("a: 1\nb: 2\na: 3\n", 3, "twice"),
        ("- a\n- b\n", 1, "map of settings"),
        ("word\n", 1, "map of settings"),
        ("a: 1\n---\nb: 2\n", 3, "second document"),
        ("a:\n  - [b]\n", 2, "plain values only"),
        ("a: &x [1]\nb: *x\n", 2, "alias"),
        ("? [a]\n: b\n", 1, "plain word"),
    ] {
        let (at, why) = file::parse(text, None).unwrap_err();
        assert_eq!(at, Some(line), "{text}: {why}");
        assert!(why.contains(reason), "{text}: {why}");
    }
}

#[test]
fn a_switch_knows_yaml_s_words() {
    for (text, value) in [("yes", true), ("On", true), ("true", true), ("no", false), ("off", false)] {
        let mut layers = Layers::new(&APP);
        layers.file(write(&format!("one-time: {text}\n")).path()).unwrap();
        assert_eq!(layers.finish().value::<bool>("one-time").unwrap(), value, "{text}");
    }
}

#[test]
fn an_empty_file_is_an_empty_layer() {
    Layers::new(&APP).file(write("").path()).unwrap();
    Layers::new(&APP).file(write("# nothing\n").path()).unwrap();
}

#[test]
fn durations_are_those_of_go() {
    for (text, millis) in
        [("300ms", 300), ("1.5h", 5_400_000), ("2h45m", 9_900_000), ("0", 0), (".5s", 500), ("1m20s", 80_000)]
    {
        assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
    }
    for text in ["5", "", "s", "1.2.3s", "1x", "-1s", "1h-2m", "."] {
        assert!(duration(text).is_err(), "{text}");
    }
    for (nanos, text) in [
        (0, "0s"),
        (1_500_000, "1.5ms"),
        (90_000_000_000, "1m30s"),
        (3_600_000_000_000, "1h0m0s"),
        (1_500, "1.5µs"),
    ] {
        assert_eq!(format_duration(Duration::from_nanos(nanos)), text);
    }
}

#[test]
fn integers_are_those_of_go() {
    for (text, value) in
        [("10", 10), ("0x1f", 31), ("0b11", 3), ("0o17", 15), ("017", 15), ("1_000", 1000), ("-3", -3)]
    {
        assert_eq!(i64::from_setting(text), Ok(value), "{text}");
    }
    for text in ["", "1__0", "_1", "1_", "0x", "--1", "1.0", "+-1"] {
        assert!(i64::from_setting(text).is_err(), "{text}");
    }
    assert!(u16::from_setting("65536").unwrap_err().contains("out of range"));
}

#[test]
fn listen_addresses() {
    for (text, host, port) in [(":80", "", 80), ("localhost:0", "localhost", 0), ("[::1]:6379", "::1", 6379)]
    {
        assert_eq!(ListenAddr::from_setting(text), Ok(ListenAddr { host: host.into(), port }));
    }
    for text in ["80", "::1:80", "a:b", "a:65536"] {
        assert!(ListenAddr::from_setting(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,24}") {
        let _ = duration(&text);
        let _ = i64::from_setting(&text);
        let _ = ByteSize::from_setting(&text);
        let _ = ListenAddr::from_setting(&text);
        let _ = file::parse(&text, Some("a"));
    }

    #[test]
    fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = file::parse(&String::from_utf8_lossy(&bytes), None);
    }

    #[test]
    fn durations_survive_printing(nanos in 0u64..i64::MAX as u64) {
        let value = Duration::from_nanos(nanos);
        prop_assert_eq!(duration(&format_duration(value)).unwrap(), value);
    }

    #[test]
    fn nesting_is_bounded(depth in 1usize..5000) {
        let _ = file::parse(&"a: {".repeat(depth), None);
        let _ = file::parse(&"[".repeat(depth), None);
    }
}

#[test]
fn misspelt_variables_are_noticed() {
    const APP: App = App {
        settings: &[
            Setting::text("upstream-password-file", "FILE", "").extra_env(&["TOOL_PASSWD"]),
            Setting::text("web.listen-address", "ADDR", ""),
        ],
        ..App::new("tool", "TOOL", "")
    };
    let meant = |name: &str| APP.meant_variable(name);
    assert_eq!(meant("TOOL_UPSTREAM_PASWORD_FILE").as_deref(), Some("TOOL_UPSTREAM_PASSWORD_FILE"));
    assert_eq!(meant("TOOL_WEB_LISTEN_ADRESS").as_deref(), Some("TOOL_WEB_LISTEN_ADDRESS"));
    assert_eq!(meant("TOOL_CONFG").as_deref(), Some("TOOL_CONFIG"));
    for name in [
        "TOOL_WEB_LISTEN_ADDRESS",
        "TOOL_LOG_LEVEL",
        "TOOL_PASSWD",
        "TOOL_SERVICE_HOST",
        "TOOL_PORT_6379_TCP",
        "TOOL_SOMETHING_OF_SOMEBODY_ELSE",
        "TOOLS_WEB_LISTEN_ADRESS",
        "PATH",
    ] {
        assert_eq!(meant(name), None, "{name}");
    }
}

#[test]
fn a_document_holds_settings_and_a_list_of_maps() {
    let file = write("period: 5s\nthings:\n- name: one\n  nest:\n    deep: 1\n- {name: two}\nlast: x\n");
    let document = Document::read(file.path(), "things").unwrap();
    let shown: Vec<_> = document.settings.iter().map(|value| (&value.key[..], value.line)).collect();
    assert_eq!(shown, [("period", 1), ("last", 7)]);
    let items: Vec<_> =
        document.items.iter().map(|(line, values)| (*line, &values[0].texts[0][..])).collect();
    assert_eq!(items, [(3, "one"), (6, "two")]);
    assert_eq!(document.items[0].1[1].key, "nest.deep");
    for (text, line) in [("things: x\n", 1), ("a: 1\nthings:\n- x\n", 3), ("things:\n  a: 1\n", 2)] {
        let error = Document::read(write(text).path(), "things").unwrap_err();
        assert!(error.to_string().contains(&format!(":{line}: expected a ")), "{error}");
    }
}

#[test]
fn layers_begin_with_other_settings_and_take_the_stronger_ones_again() {
    let file = write("period: 5s\nreplica: [x]\nthings:\n- {period: 7s}\n");
    let mut below = Layers::new(&APP);
    below.environment([("DEMO_PERIOD", "3s")]);
    let below = below.finish();
    let document = Document::read(file.path(), "things").unwrap();
    let mut top = Layers::above(&APP, &below);
    top.document(&document).unwrap();
    top.stronger(&below);
    let top = top.finish();
    assert_eq!(top.value::<Duration>("period").unwrap(), Duration::from_secs(3));
    assert_eq!(top.list::<String>("replica").unwrap(), ["x"]);
    let mut item = Layers::above(&APP, &top);
    item.item(&document, 0).unwrap();
    let item = item.finish();
    assert_eq!(item.value::<Duration>("period").unwrap(), Duration::from_secs(7));
    assert!(!item.says_the_same(&top));
    assert!(item.says_the_same(&item.clone()));
}
