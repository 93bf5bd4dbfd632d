//! A real Tomcat with one empty application.

use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::free_port;
use crate::process::Daemon;

/// Where Debian puts it.
const HOME: &str = "/usr/share/tomcat10";

/// A running Tomcat.
#[derive(Debug)]
pub struct Tomcat {
    /// Its HTTP port on loopback.
    pub port: u16,
    /// The process.
    pub daemon: Daemon,
    _base: TempDir,
}

impl Tomcat {
    /// Starts it with options for its JVM.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start(options: &str) -> Result<Self> {
        let script = format!("{HOME}/bin/catalina.sh");
        ensure!(std::path::Path::new(&script).is_file(), "tomcat10 is not installed: run `make setup`");
        let base = tempfile::tempdir()?;
        for folder in ["conf", "logs", "temp", "work", "webapps/ROOT"] {
            std::fs::create_dir_all(base.path().join(folder))?;
        }
        let port = free_port()?;
        let server = format!(
            r#"<Server port="-1"><Service name="Catalina">
            <Connector port="{port}" address="127.0.0.1" protocol="HTTP/1.1"/>
            <Engine name="Catalina" defaultHost="localhost"><Host name="localhost" appBase="webapps"/></Engine>
            </Service></Server>"#
        );
        std::fs::write(base.path().join("conf/server.xml"), server)?;
        let mut daemon = Daemon::start(
            Command::new(script)
                .arg("run")
                .env("CATALINA_HOME", HOME)
                .env("CATALINA_BASE", base.path())
                .env("CATALINA_OPTS", format!("-Xmx64m {options}")),
        )?;
        daemon.wait_for_port(port)?;
        Ok(Self { port, daemon, _base: base })
    }
}
