//! Every flag and variable, as data: those of kubernetes/git-sync v4 with their defaults.

use common::config::{App, Setting};

const WHAT: &str = "What to sync";
const WHERE: &str = "Where to";
const WHEN: &str = "When";
const PUSH: &str = "Reacting at once";
const HOOKS: &str = "Hooks";
const LOGIN: &str = "Credentials";
const OTHER: &str = "HTTP endpoint, git and the rest";

const fn text(name: &'static str, value: &'static str, help: &'static str) -> Setting {
    Setting::text(name, value, help)
}

const fn switch(name: &'static str, help: &'static str) -> Setting {
    Setting::switch(name, help)
}

/// The settings table.
///
/// ```
/// use gitsync::{APP, Layers};
///
/// let defaults = Layers::new(&APP).finish();
/// assert_eq!(defaults.text("period"), Some("10s"));
/// ```
pub const APP: App = App {
    extra_env_wins: true,
    after_help: "Every flag is also read from its GITSYNC_ variable; a flag wins over a variable.\n\
                 Older GIT_SYNC_ variables still work and win over the newer ones.\n\n\
                 Examples:\n  \
                 gitsync --repo https://example.com/site.git --root /srv/git --link site --period 10s\n  \
                 gitsync --repo git@example.com:team/dags.git --root /srv/git --http-bind :2020\n  \
                 gitsync --repo https://example.com/site.git --ref v1.2 --root /srv/git --one-time",
    settings: SETTINGS,
    ..App::new(
        "gitsync",
        "GITSYNC",
        "Keeps a folder equal to a git ref, and publishes each commit in one step.",
    )
};

const SETTINGS: &[Setting] = &[
    text("repo", "URL", "What to sync: https, http, ssh or git URL, host:path, file URL or path (required)")
        .extra_env(&["GIT_SYNC_REPO"])
        .group(WHAT),
    text("ref", "REF", "Branch, tag, full commit hash or full ref name").default("HEAD").group(WHAT),
    text(
        "sources",
        "FILE",
        "Sync all repositories and refs that this YAML file lists, and read it when it changes",
    )
    .default("")
    .group(WHAT),
    text("depth", "N", "Commits of history; 0 is all of it")
        .default("1")
        .extra_env(&["GIT_SYNC_DEPTH"])
        .group(WHAT),
    text("filter", "SPEC", "What a fetch may leave out at first: blob:none, blob:limit=BYTES, tree:DEPTH")
        .default("")
        .group(WHAT),
    text("submodules", "MODE", "recursive, shallow (first level only) or off")
        .default("recursive")
        .extra_env(&["GIT_SYNC_SUBMODULES"])
        .group(WHAT),
    text("sparse-checkout-file", "FILE", "Patterns of what to check out (gitignore syntax)")
        .default("")
        .extra_env(&["GIT_SYNC_SPARSE_CHECKOUT_FILE"])
        .group(WHAT),
    text("root", "DIR", "Working directory; what is no part of it is removed (required)")
        .extra_env(&["GIT_SYNC_ROOT"])
        .group(WHERE),
    text(
        "link",
        "PATH",
        "The published symlink, relative to the root or absolute [default: last part of --repo]",
    )
    .extra_env(&["GIT_SYNC_LINK"])
    .group(WHERE),
    text("publish", "MODE", "symlink, exchange (a real directory, exchanged in one step) or copy-once")
        .default("symlink")
        .group(WHERE),
    text("subpath", "DIR", "Publish only this folder of the repository").default("").group(WHERE),
    text("strip", "WHAT", "Leave out of the published tree: none, git or dotfiles (but for .well-known)")
        .default("none")
        .group(WHERE),
    text("file-times", "WHICH", "Times of published files: checkout, or commit (the same everywhere)")
        .default("checkout")
        .group(WHERE),
    Setting::list("precompress", "KINDS", "Make compressed siblings for web servers: gz, br, zst")
        .env_separator(Some(','))
        .group(WHERE),
    text("touch-file", "FILE", "Touched after each change and the first success")
        .default("")
        .extra_env(&["GIT_SYNC_TOUCH_FILE"])
        .group(WHERE),
    text("error-file", "FILE", "Holds the last error, as JSON; absent while all is well")
        .default("")
        .extra_env(&["GIT_SYNC_ERROR_FILE"])
        .group(WHERE),
    switch("group-write", "Let the group write everything (umask 0002)")
        .extra_env(&["GIT_SYNC_GROUP_WRITE"])
        .group(WHERE),
    text("stale-worktree-timeout", "DURATION", "How long a replaced checkout stays")
        .default("0s")
        .group(WHERE),
    text("keep", "N", "Replaced checkouts that stay whatever their age, to roll back to")
        .default("0")
        .group(WHERE),
    text("reuse", "MODE", "Reuse unchanged files of the last checkout: auto, reflink, hardlink or off")
        .default("off")
        .group(WHERE),
    text("lfs", "MODE", "Replace Git LFS pointers by what they stand for: on or off")
        .default("off")
        .group(WHERE),
    text("period", "DURATION", "Pause between attempts, at least 10ms")
        .default("10s")
        .extra_env(&["GIT_SYNC_PERIOD"])
        .group(WHEN),
    text("init-period", "DURATION", "Pause until the first success [default: --period]").group(WHEN),
    text("sync-timeout", "DURATION", "Limit of one attempt, at least 10ms")
        .default("120s")
        .extra_env(&["GIT_SYNC_SYNC_TIMEOUT"])
        .group(WHEN),
    switch("one-time", "Leave after the first success").extra_env(&["GIT_SYNC_ONE_TIME"]).group(WHEN),
    text("max-failures", "N", "Leave at so many failures in a row; 0 at the first, negative never")
        .default("0")
        .extra_env(&["GIT_SYNC_MAX_FAILURES"])
        .group(WHEN),
    text("init-max-failures", "N", "The same until the first success [default: --max-failures]").group(WHEN),
    text("sync-on-signal", "SIGNAL", "Sync at once on this signal (SIGHUP, HUP or 1)")
        .default("")
        .extra_env(&["GIT_SYNC_SYNC_ON_SIGNAL"])
        .group(WHEN),
    text("period-jitter", "PERCENT", "Let each pause differ by up to this share of it")
        .default("0")
        .group(WHEN),
    text("max-period", "DURATION", "While attempts fail, double the pause up to this [default: no growth]")
        .group(WHEN),
    text("webhook-listen", "ADDRESS", "Take push webhooks and calls here, not on --http-bind")
        .default("")
        .group(PUSH),
    text(
        "push-webhook-secret-file",
        "FILE",
        "Take signed push webhooks; one secret per line, read each time",
    )
    .default("")
    .group(PUSH),
    text("push-webhook-path", "PATH", "Where they are sent").default("/webhook").group(PUSH),
    text(
        "push-webhook-repository",
        "NAME",
        "The repository as they name it, owner/name [default: from --repo]",
    )
    .default("")
    .group(PUSH),
    text("push-webhook-window", "DURATION", "Age of a signed time, and memory for repeated deliveries")
        .default("5m")
        .group(PUSH),
    text(
        "api-token-file",
        "FILE",
        "Take POST /sync, /rollback, /pin with such a bearer token; one per line, read each time",
    )
    .default("")
    .group(PUSH),
    text("exechook-command", "PROGRAM", "Program run after publication")
        .default("")
        .extra_env(&["GIT_SYNC_EXECHOOK_COMMAND"])
        .group(HOOKS),
    text("exechook-timeout", "DURATION", "Limit of one run")
        .default("30s")
        .extra_env(&["GIT_SYNC_EXECHOOK_TIMEOUT"])
        .group(HOOKS),
    text("exechook-backoff", "DURATION", "Pause before it is tried again")
        .default("3s")
        .extra_env(&["GIT_SYNC_EXECHOOK_BACKOFF"])
        .group(HOOKS),
    text("pre-publish-exechook-command", "PROGRAM", "Program run before publication; a failure prevents it")
        .default("")
        .group(HOOKS),
    text("pre-publish-exechook-timeout", "DURATION", "Limit of one run").default("30s").group(HOOKS),
    text("pre-publish-exechook-backoff", "DURATION", "Pause before it is tried again")
        .default("3s")
        .group(HOOKS),
    switch("pre-publish-exechook-async", "Don't wait for that program, as kubernetes/git-sync does")
        .group(HOOKS),
    text("verify", "WHICH", "Publish only what is signed: off, head or all-new").default("off").group(HOOKS),
    text(
        "verify-allowed-signers-file",
        "FILE",
        "SSH keys whose signatures count (ssh-keygen's ALLOWED SIGNERS)",
    )
    .default("")
    .group(HOOKS),
    text("verify-openpgp-keyring", "FILE", "OpenPGP keys whose signatures count, armored or not")
        .default("")
        .group(HOOKS),
    text("probe-url", "URL", "Asked after publication; without a good answer the commit before comes back")
        .default("")
        .group(HOOKS),
    text("probe-timeout", "DURATION", "Time for a good answer (200 to 399)").default("10s").group(HOOKS),
    text("probe-delay", "DURATION", "Pause before the first question").default("0s").group(HOOKS),
    text("webhook-url", "URL", "Request sent after publication")
        .default("")
        .extra_env(&["GIT_SYNC_WEBHOOK_URL"])
        .group(HOOKS),
    text("webhook-method", "METHOD", "Its HTTP method")
        .default("POST")
        .extra_env(&["GIT_SYNC_WEBHOOK_METHOD"])
        .group(HOOKS),
    text("webhook-success-status", "STATUS", "The status that counts as success; 0 or -1: any")
        .default("200")
        .extra_env(&["GIT_SYNC_WEBHOOK_SUCCESS_STATUS"])
        .group(HOOKS),
    text("webhook-timeout", "DURATION", "Limit of one request")
        .default("1s")
        .extra_env(&["GIT_SYNC_WEBHOOK_TIMEOUT"])
        .group(HOOKS),
    text("webhook-backoff", "DURATION", "Pause before it is tried again")
        .default("3s")
        .extra_env(&["GIT_SYNC_WEBHOOK_BACKOFF"])
        .group(HOOKS),
    Setting::list("webhook-extra-url", "URL", "The same request to another address, too; repeatable")
        .group(HOOKS),
    Setting::list("webhook-header", "NAME: VALUE", "A further header of it; repeatable")
        .env_separator(None)
        .group(HOOKS),
    text("webhook-body", "KIND", "none, or json: what changed").default("none").group(HOOKS),
    text("webhook-hmac-secret-file", "FILE", "Sign it with the first line of this file, read each time")
        .default("")
        .group(HOOKS),
    text("username", "NAME", "User name for --repo")
        .default("")
        .extra_env(&["GIT_SYNC_USERNAME"])
        .group(LOGIN),
    // Kept out of --help: a flag shows in the process list. The variable is the way.
    text("password", "PASSWORD", "Password or token; better set GITSYNC_PASSWORD or --password-file")
        .default("")
        .extra_env(&["GIT_SYNC_PASSWORD"])
        .hidden()
        .group(LOGIN),
    text("__env__GITSYNC_PASSWORD", "PASSWORD", "Same as the variable").default("").hidden().only_extra_env(),
    text("password-file", "FILE", "File with the password, read before every attempt")
        .default("")
        .extra_env(&["GIT_SYNC_PASSWORD_FILE"])
        .group(LOGIN),
    Setting::list(
        "credential",
        "JSON",
        "Credentials for other URLs: url, username, password or password-file",
    )
    .env_separator(None)
    .gathers()
    .group(LOGIN),
    Setting::list(
        "ssh-key-file",
        "FILE",
        "Private keys, tried in order; separated by colons in the variable",
    )
    .default("/etc/git-secret/ssh")
    .extra_env(&["GIT_SYNC_SSH_KEY_FILE", "GIT_SSH_KEY_FILE"])
    .env_separator(Some(':'))
    .group(LOGIN),
    switch("ssh-known-hosts", "Check host keys")
        .default("true")
        .extra_env(&["GIT_SYNC_KNOWN_HOSTS", "GIT_KNOWN_HOSTS"])
        .group(LOGIN),
    text("ssh-known-hosts-file", "FILE", "Known host keys")
        .default("/etc/git-secret/known_hosts")
        .extra_env(&["GIT_SYNC_SSH_KNOWN_HOSTS_FILE", "GIT_SSH_KNOWN_HOSTS_FILE"])
        .group(LOGIN),
    switch("cookie-file", "Use the cookies in /etc/git-secret/cookie_file")
        .extra_env(&["GIT_SYNC_COOKIE_FILE", "GIT_COOKIE_FILE"])
        .group(LOGIN),
    text("askpass-url", "URL", "Asked for username and password before every attempt")
        .default("")
        .extra_env(&["GIT_SYNC_ASKPASS_URL", "GIT_ASKPASS_URL"])
        .group(LOGIN),
    text("github-base-url", "URL", "API of GitHub or GitHub Enterprise")
        .default("https://api.github.com/")
        .group(LOGIN),
    text("github-app-private-key", "PEM", "Private key of the GitHub App").default("").secret().group(LOGIN),
    text("__env__GITSYNC_GITHUB_APP_PRIVATE_KEY", "PEM", "Same as the variable")
        .default("")
        .hidden()
        .only_extra_env(),
    text("github-app-private-key-file", "FILE", "File with that key").default("").group(LOGIN),
    text("github-app-application-id", "N", "Application id").default("0").group(LOGIN),
    text("github-app-client-id", "ID", "Client id, instead of the application id").default("").group(LOGIN),
    text("github-app-installation-id", "N", "Installation id").default("0").group(LOGIN),
    switch("add-user", "Accepted; no passwd entry is needed here")
        .extra_env(&["GIT_SYNC_ADD_USER"])
        .group(LOGIN),
    text("git", "PROGRAM", "Accepted and ignored: no git program is run")
        .default("git")
        .extra_env(&["GIT_SYNC_GIT"])
        .group(OTHER),
    text("git-config", "PAIRS", "Settings as key:value,key:value")
        .default("")
        .extra_env(&["GIT_SYNC_GIT_CONFIG"])
        .group(OTHER),
    Setting::list("git-config-add", "PAIR", "One more setting as key:value")
        .env_separator(None)
        .only_extra_env()
        .group(OTHER),
    text("git-gc", "MODE", "Tidying of the object store: always, auto, aggressive or off")
        .default("always")
        .extra_env(&["GIT_SYNC_GIT_GC"])
        .group(OTHER),
    text("http-bind", "ADDRESS", "Serve health, status and metrics on host:port or :port")
        .default("")
        .extra_env(&["GIT_SYNC_HTTP_BIND"])
        .group(OTHER),
    switch("http-metrics", "Serve /metrics (needs --http-bind)")
        .extra_env(&["GIT_SYNC_HTTP_METRICS"])
        .group(OTHER),
    switch("http-events", "Serve /events: publications as server-sent events (needs --http-bind)")
        .group(OTHER),
    switch("http-pprof", "Serve /debug/pprof/ (needs --http-bind)")
        .extra_env(&["GIT_SYNC_HTTP_PPROF"])
        .group(OTHER),
    text("verbose", "N", "More log lines: 0 updates only, 1 steps, 5 what others are asked, 6 what they answer, 7 libraries, 9 everything")
        .default("0")
        .short('v')
        .group(OTHER),
    switch("man", "Print the manual and leave").only_extra_env().group(OTHER),
    // Deprecated ones.
    text("branch", "BRANCH", "Use --ref")
        .default("")
        .extra_env(&["GIT_SYNC_BRANCH"])
        .hidden()
        .only_extra_env(),
    text("rev", "REV", "Use --ref").default("").extra_env(&["GIT_SYNC_REV"]).hidden().only_extra_env(),
    text("dest", "PATH", "Use --link").default("").extra_env(&["GIT_SYNC_DEST"]).hidden().only_extra_env(),
    text("wait", "SECONDS", "Use --period")
        .default("0")
        .extra_env(&["GIT_SYNC_WAIT"])
        .hidden()
        .only_extra_env(),
    text("timeout", "SECONDS", "Use --sync-timeout")
        .default("0")
        .extra_env(&["GIT_SYNC_TIMEOUT"])
        .hidden()
        .only_extra_env(),
    text("max-sync-failures", "N", "Use --max-failures")
        .default("0")
        .extra_env(&["GIT_SYNC_MAX_SYNC_FAILURES"])
        .hidden()
        .only_extra_env(),
    text("sync-hook-command", "PROGRAM", "Use --exechook-command")
        .default("")
        .extra_env(&["GIT_SYNC_HOOK_COMMAND"])
        .hidden()
        .only_extra_env(),
    text("change-permissions", "N", "Gone")
        .default("0")
        .extra_env(&["GIT_SYNC_PERMISSIONS"])
        .hidden()
        .only_extra_env(),
    switch("ssh", "No effect").hidden().only_extra_env(),
    text("v", "N", "Use --verbose").default("-1").hidden().only_extra_env(),
];

/// Deprecated flags and what to say instead.
///
/// ```
/// let instead = gitsync::DEPRECATED.iter().find(|(flag, _)| *flag == "branch").map(|(_, instead)| *instead);
/// assert_eq!(instead, Some("--ref"));
/// ```
pub const DEPRECATED: &[(&str, &str)] = &[
    ("branch", "--ref"),
    ("rev", "--ref"),
    ("dest", "--link"),
    ("wait", "--period"),
    ("timeout", "--sync-timeout"),
    ("max-sync-failures", "--max-failures"),
    ("sync-hook-command", "--exechook-command"),
    ("password", "--password-file or the variable GITSYNC_PASSWORD"),
    ("change-permissions", "--group-write"),
    ("ssh", "nothing, it has no effect"),
    ("v", "--verbose"),
];
