//! A real nginx, unprivileged, with a private prefix.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::process::Daemon;
use crate::{free_port, program};

/// nginx that serves one folder.
#[derive(Debug)]
pub struct Nginx {
    /// Its port on loopback.
    pub port: u16,
    _daemon: Daemon,
    _prefix: TempDir,
}

impl Nginx {
    /// Serves `root`, with caches off so that each request looks at the files.
    ///
    /// # Errors
    /// nginx is missing or does not start.
    pub fn serve(root: &Path) -> Result<Self> {
        let prefix = tempfile::tempdir()?;
        let port = free_port()?;
        let configuration = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;\n\
             fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
             server {{ listen 127.0.0.1:{port}; root {root}; open_file_cache off; }} }}\n",
            dir = prefix.path().display(),
            root = root.display(),
        );
        let file = prefix.path().join("nginx.conf");
        std::fs::write(&file, configuration)?;
        let mut command = Command::new(program("nginx")?);
        let mut daemon = Daemon::start(command.arg("-p").arg(prefix.path()).arg("-c").arg(&file))?;
        daemon.wait_for_port(port)?;
        Ok(Self { port, _daemon: daemon, _prefix: prefix })
    }
}
