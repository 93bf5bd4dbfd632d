//! HotSpot's attach protocol: makes a running JVM start its local management agent, and says where it listens.
//!
//! Source: `attachListener_linux.cpp` and `VirtualMachineImpl` of OpenJDK, as behaviour: a file tells the JVM
//! to open a socket when SIGQUIT comes, over which commands of NUL-terminated words are sent, one a connection.
//! The agent is the one that `jconsole` uses: it takes connections from this machine only, and opens no port
//! that others could use.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process::{Jvm, LocalError};
use crate::jmx::remote::RemoteReference;
use crate::jmx::serialization::{Content, Limits, Reader};

/// Time for the JVM to open its socket, and for each command.
const LIMIT: Duration = Duration::from_secs(6);
/// Longest answer to a command, in bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// The property that holds the address of the local agent.
const ADDRESS: &str = "com.sun.management.jmxremote.localConnectorAddress";

/// Starts the local agent of a JVM where it does not run yet, and returns the stub of its connector.
///
/// # Errors
/// The JVM does not answer, belongs to somebody else, or has attaching disabled. Blocks up to 20 seconds.
pub fn local_connector(jvm: &Jvm) -> Result<RemoteReference, LocalError> {
    let refuse = |reason: String| LocalError::NotAttachable { pid: jvm.pid, reason };
    let socket = jvm.temporary(&format!(".java_pid{}", jvm.own_pid));
    if UnixStream::connect(&socket).is_err() {
        open_socket(jvm, &socket)?;
    }
    let address = |jvm: &Jvm| -> Result<Option<String>, LocalError> {
        let properties = command(jvm, &socket, &["agentProperties", "", "", ""])?;
        Ok(property(&properties, ADDRESS))
    };
    let url = match address(jvm)? {
        Some(url) => url,
        None => {
            command(jvm, &socket, &["jcmd", "ManagementAgent.start_local", "", ""])?;
            address(jvm)?.ok_or_else(|| refuse("its management agent did not start".to_owned()))?
        }
    };
    stub_of(&url).ok_or_else(|| refuse(format!("`{url}` holds no stub")))
}

fn open_socket(jvm: &Jvm, socket: &Path) -> Result<(), LocalError> {
    let refuse = |reason: &str| LocalError::NotAttachable { pid: jvm.pid, reason: reason.to_owned() };
    // Without its handler in place the signal would end the process.
    if !jvm.catches_quit {
        return Err(refuse("it does not listen to SIGQUIT: still starting, or started with -Xrs"));
    }
    let trigger = jvm.temporary(&format!(".attach_pid{}", jvm.own_pid));
    let denied = |source| LocalError::Denied { pid: jvm.pid, path: trigger.display().to_string(), source };
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&trigger);
    file.map_err(denied)?;
    // Older JVMs want the file to be their own user's; who is not root has no choice anyway.
    let _ = chown(&trigger, Some(jvm.owner.0), Some(jvm.owner.1));
    let result = signal_until_open(jvm, socket);
    let _ = fs::remove_file(&trigger);
    result
}

fn signal_until_open(jvm: &Jvm, socket: &Path) -> Result<(), LocalError> {
    let refuse = |reason: String| LocalError::NotAttachable { pid: jvm.pid, reason };
    let pid = i32::try_from(jvm.pid).map_err(|_| refuse("an impossible process id".to_owned()))?;
    kill(Pid::from_raw(pid), Signal::SIGQUIT)
        .map_err(|error| refuse(format!("cannot be signalled: {error}")))?;
    let start = Instant::now();
    while UnixStream::connect(socket).is_err() {
        if start.elapsed() > LIMIT {
            return Err(refuse(format!("opened no socket within {LIMIT:?} (-XX:+DisableAttachMechanism?)")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Sends one command and returns what it printed.
fn command(jvm: &Jvm, socket: &Path, words: &[&str]) -> Result<String, LocalError> {
    let refuse = |reason: String| LocalError::NotAttachable { pid: jvm.pid, reason };
    let mut request = b"1\0".to_vec();
    for word in words {
        request.extend_from_slice(word.as_bytes());
        request.push(0);
    }
    let answer =
        exchange(socket, &request).map_err(|error| refuse(format!("`{}` failed: {error}", words[0])))?;
    let (status, text) = answer.split_once('\n').unwrap_or((&answer, ""));
    match status.trim() {
        "0" => Ok(text.to_owned()),
        status => Err(refuse(format!("`{}` was refused with status {status}: {}", words[0], text.trim()))),
    }
}

fn exchange(socket: &Path, request: &[u8]) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    (&mut stream).take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A value of a properties file, as `java.util.Properties` writes it.
fn property(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))?;
    let mut value = String::with_capacity(line.len());
    let mut characters = line.trim_start().chars();
    while let Some(c) = characters.next() {
        value.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    Some(value)
}

/// The stub that a service URL of the form `service:jmx:rmi://host/stub/BASE64` carries.
#[must_use]
pub fn stub_of(url: &str) -> Option<RemoteReference> {
    let (_, encoded) = url.trim().strip_prefix("service:jmx:rmi://")?.split_once("/stub/")?;
    let encoded = encoded.split(['?', '#']).next().unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let mut reader = Reader::new(Limits { bytes: 64 << 10, ..Limits::default() });
    match reader.advance(&bytes).ok()? {
        (_, Some(Content::Value(value))) => RemoteReference::from_stub(reader.graph(), value).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn properties() {
        let text = "#comment\na.b=c\nx.address=service\\:jmx\\:rmi\\://h/stub/rO0\\=\n";
        assert_eq!(property(text, "x.address").as_deref(), Some("service:jmx:rmi://h/stub/rO0="));
        assert_eq!(property(text, "x"), None);
    }

    proptest! {
        #[test]
        fn any_stub_is_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in ".*") {
            let mut stream = vec![0xAC, 0xED, 0, 5];
            stream.extend(bytes);
            let encoded = base64::engine::general_purpose::STANDARD.encode(stream);
            let _ = stub_of(&format!("service:jmx:rmi://h/stub/{encoded}"));
            let _ = stub_of(&text);
        }
    }
}
