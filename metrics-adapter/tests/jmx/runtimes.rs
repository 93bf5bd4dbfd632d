//! Java of every version that a registry carries; `images/setup.sh test` fetches them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Adapter, Jvm, free_port, value};
use crate::{identity, password, secret_file};

fn folder(version: u8) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/jdks/{version}"));
    folder.canonicalize().unwrap_or_else(|_| panic!("run `images/setup.sh test` for a Java {version}"))
}

fn java(version: u8) -> Command {
    Command::new(folder(version).join("bin/java"))
}

/// Debian's Java 8 wants a newer C library than the system may have, and comes with it: it has a root of its own, into
/// which everything is mounted that the tests name. The process stays the same one all along.
fn java_8() -> Command {
    const ENTER: &str = r#"
        root=$0
        for folder in /dev /proc /tmp "$TARGET"; do
            mkdir -p "$root$folder" && mount --rbind "$folder" "$root$folder" || exit 1
        done
        java=$(cd "$root" && echo usr/lib/jvm/java-8-openjdk-*/jre/bin/java)
        exec chroot "$root" "/$java" "$@""#;
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "--propagation", "private", "sh", "-c", ENTER])
        .arg(folder(8));
    command.env("TARGET", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// The samples of the fixture's own beans.
fn own(page: &str) -> Vec<&str> {
    page.lines().filter(|line| line.starts_with("fixture_") || line.starts_with("bench_")).collect()
}

fn behaves(version: &str, java: impl Fn() -> Command) {
    let open = ["authenticate=false", "ssl=false"];
    let arguments = ["beans", "40", "unlike"];
    let jvm = Jvm::plain(&arguments);
    let expected = Adapter::of(jvm.port, "").scrape();
    let other = Jvm::on(java(), free_port(), &open, &[], &arguments);
    let adapter = Adapter::of(other.port, "jvmMetrics: true\n");
    for _ in 0..3 {
        let page = adapter.scrape();
        assert_eq!(value(&page, "jmx_scrape_error"), Some(0.0), "{version}: {}", adapter.log());
        assert_eq!(own(&page), own(&expected), "{version}");
        assert!(page.contains(&format!(",version=\"{version}")), "{version}: {page}");
        assert!(value(&page, "jvm_threads_current").unwrap() > 3.0);
        assert!(value(&page, "java_lang_Memory_HeapMemoryUsage_used").unwrap() > 1e5);
    }
    let attached = Adapter::start(&format!("jmxUrl: attach:{}\n", other.pid()));
    assert_eq!(own(&attached.scrape()), own(&expected), "{version}: {}", attached.log());
    // A password, and TLS with a certificate of both sides.
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display().to_string();
    identity(&at, "server", "PKCS12");
    identity(&at, "client", "PKCS12");
    let mut management = password(directory.path()).to_vec();
    management[1] = "ssl=true".to_owned();
    management.extend(["registry.ssl=true".to_owned(), "ssl.need.client.auth=true".to_owned()]);
    let options = [
        format!("-Djavax.net.ssl.keyStore={at}/server.PKCS12"),
        "-Djavax.net.ssl.keyStorePassword=secret1".to_owned(),
        format!("-Djavax.net.ssl.trustStore={at}/client-trust.PKCS12"),
        "-Djavax.net.ssl.trustStorePassword=secret1".to_owned(),
    ];
    let management: Vec<&str> = management.iter().map(String::as_str).collect();
    let guarded = Jvm::on(java(), free_port(), &management, &options, &arguments);
    let secret = secret_file(directory.path(), "secret", "s3cret\n");
    let stores = format!(
        "ssl: {{trustStore: {{filename: {at}/server-trust.PKCS12, password: secret1}}, \
         keyStore: {{filename: {at}/client.PKCS12, password: secret1}}}}\n"
    );
    let adapter = Adapter::of(guarded.port, &format!("username: monitor\npasswordFile: {secret}\n{stores}"));
    assert_eq!(own(&adapter.scrape()), own(&expected), "{version}: {}", adapter.log());
}

#[test]
#[ignore = "needs a JDK, and Java 8 of images/setup.sh"]
fn java_8_behaves() {
    behaves("1.8.0", java_8);
}

#[test]
#[ignore = "needs a JDK, and Java 11 of images/setup.sh"]
fn java_11_behaves() {
    behaves("11.", || java(11));
}

#[test]
#[ignore = "needs a JDK, and Java 17 of images/setup.sh"]
fn java_17_behaves() {
    behaves("17.", || java(17));
}

#[test]
#[ignore = "needs a JDK, and Java 21 of images/setup.sh"]
fn java_21_behaves() {
    behaves("21.", || java(21));
}

#[test]
#[ignore = "needs a JDK, and Java 25 of images/setup.sh"]
fn java_25_behaves() {
    behaves("25.", || java(25));
}
