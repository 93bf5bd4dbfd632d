//! A real JVM with JMX on loopback.

use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::process::{Daemon, output};
use crate::{free_port, program};

/// A bean with a gauge, a counter and a composite; the values never change.
const SOURCE: &str = r#"
import java.lang.management.ManagementFactory;
import javax.management.ObjectName;

public class Fixture {
    public interface ShopMBean { int getQueueSize(); long getOrdersTotal(); boolean isOpen(); String getOwner(); }
    public static class Shop implements ShopMBean {
        public int getQueueSize() { return 7; }
        public long getOrdersTotal() { return 9007199254740993L; }
        public boolean isOpen() { return true; }
        public String getOwner() { return "nobody"; }
    }
    public static void main(String[] arguments) throws Exception {
        ManagementFactory.getPlatformMBeanServer().registerMBean(new Shop(), new ObjectName("shop:type=Shop,name=main"));
        System.out.println("registered");
        Thread.sleep(Long.MAX_VALUE);
    }
}
"#;

/// A JVM that runs the fixture.
#[derive(Debug)]
pub struct Jvm {
    /// Port of the RMI registry on loopback.
    pub port: u16,
    /// The process.
    pub daemon: Daemon,
    _classes: TempDir,
}

impl Jvm {
    /// Compiles and starts it; JMX has neither TLS nor a password.
    ///
    /// # Errors
    /// There is no JDK, or it does not start.
    pub fn start() -> Result<Self> {
        let classes = tempfile::tempdir()?;
        let source = classes.path().join("Fixture.java");
        std::fs::write(&source, SOURCE)?;
        output(Command::new(program("javac")?).arg("-d").arg(classes.path()).arg(&source))?;
        let port = free_port()?;
        let mut daemon = Daemon::start(
            Command::new(program("java")?)
                .args([
                    "-Xmx64m",
                    "-Djava.rmi.server.hostname=127.0.0.1",
                    "-Dcom.sun.management.jmxremote.host=127.0.0.1",
                ])
                .arg(format!("-Dcom.sun.management.jmxremote.port={port}"))
                .args([
                    "-Dcom.sun.management.jmxremote.ssl=false",
                    "-Dcom.sun.management.jmxremote.authenticate=false",
                ])
                .arg("-cp")
                .arg(classes.path())
                .arg("Fixture"),
        )?;
        daemon.wait_for_port(port)?;
        daemon.wait_for_line("registered")?;
        Ok(Self { port, daemon, _classes: classes })
    }
}
