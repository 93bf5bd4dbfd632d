//! Files and answers from elsewhere that are text: known hosts, git's configuration, cookies, credentials, addresses.
#![no_main]

use gitsync::auth::{askpass, cookie::Jar, git_config, github_app, store, url};
use gitsync::ssh::{Target, known_hosts::KnownHosts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &str)| {
    let (bytes, text) = input;
    if let Ok(known) = KnownHosts::parse(bytes) {
        let _ = known.check(text, 22, bytes);
    }
    let _ = (askpass::parse(bytes), github_app::parse_answer(bytes));
    let content = String::from_utf8_lossy(bytes);
    if let Ok(cookies) = Jar::parse(&content) {
        let _ = cookies.header(text, 1_700_000_000);
    }
    let _ = (git_config::parse(&content), store::parse(&content), store::stored(&content));
    let _ = (url::split(text), url::unescape(text), Target::parse(text));
    if let Ok((bare, user)) = url::cut_credentials(text) {
        // Nothing of it may be left for logs.
        assert!(user.is_none() || url::cut_credentials(&bare).is_ok_and(|(_, user)| user.is_none()), "{bare}");
    }
    assert_eq!(url::mask(&url::mask(text)), url::mask(text));
});
