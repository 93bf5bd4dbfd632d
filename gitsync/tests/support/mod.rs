//! What the black-box tests share: repositories and servers made by the real git, the binary.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod lfs;
pub mod proxy;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const BINARY: &str = env!("CARGO_BIN_EXE_gitsync");

/// A bare repository, a clone to commit in, and a root to sync to.
pub struct Site {
    pub dir: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    /// On the disk of the build, whatever the temporary directory is on.
    pub fn on_disk() -> Self {
        Self::on(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    fn on(dir: tempfile::TempDir) -> Self {
        let site = Self { dir };
        run(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(site.bare()));
        for (key, value) in [("uploadpack.allowFilter", "true"), ("http.receivepack", "true")] {
            git(&site.bare(), &["config", key, value]);
        }
        run(Command::new("git").args(["init", "-q", "-b", "main"]).arg(site.work()));
        git(&site.work(), &["remote", "add", "origin", site.bare().to_str().unwrap()]);
        site
    }

    pub fn bare(&self) -> PathBuf {
        self.dir.path().join("site.git")
    }

    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub fn link(&self) -> PathBuf {
        self.root().join("link")
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.bare().display())
    }

    /// Writes files, commits, pushes to main; gives the hash.
    pub fn push(&self, files: &[(&str, &str)]) -> String {
        for (name, content) in files {
            let path = self.work().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        self.commit()
    }

    pub fn commit(&self) -> String {
        git(&self.work(), &["add", "-A"]);
        git(&self.work(), &["commit", "-q", "--allow-empty", "-m", "change"]);
        git(&self.work(), &["push", "-q", "-f", "origin", "HEAD:main"]);
        git(&self.work(), &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// The binary with repo, root and link set.
    pub fn sync(&self, arguments: &[&str]) -> Command {
        self.sync_from(&self.url(), arguments)
    }

    pub fn sync_from(&self, url: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg(format!("--repo={url}")).arg(format!("--root={}", self.root().display()));
        command.arg("--link=link").args(arguments);
        command
    }

    pub fn published(&self) -> String {
        fs::read_link(self.link()).unwrap().file_name().unwrap().to_str().unwrap().to_owned()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.link().join(name)).unwrap()
    }
}

/// Runs git with nobody's configuration; gives its standard output.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    run(Command::new("git").arg("-C").arg(directory).args(arguments))
}

pub fn run(command: &mut Command) -> String {
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "T").env(format!("GIT_{who}_EMAIL"), "t@localhost");
    }
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs to the end; panics when that takes longer than 60 s.
pub fn finish(command: &mut Command) -> Output {
    command.output().unwrap()
}

pub fn succeed(command: &mut Command) {
    let output = finish(command);
    assert_eq!(output.status.code(), Some(0), "{command:?}: {}", text(&output));
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// A process that ends with the test.
pub struct Running(pub Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|e| panic!("{command:?}: {e}")),
        )
    }

    pub fn signal(&self, name: &str) {
        run(Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()));
    }

    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status.code().unwrap_or(-1));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An nginx that serves what is published.
pub fn nginx(site: &Site, port: u16) -> Running {
    let own = site.dir.path().join("nginx");
    fs::create_dir_all(&own).unwrap();
    let (own, html) = (own.display(), site.link());
    let configuration = format!(
        "pid {own}/pid; error_log {own}/error.log; worker_processes 1; daemon off; master_process off;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {own}/body; proxy_temp_path {own}/proxy;\n\
         fastcgi_temp_path {own}/fastcgi; uwsgi_temp_path {own}/uwsgi; scgi_temp_path {own}/scgi;\n\
         gzip_static on; server {{ listen 127.0.0.1:{port}; root {}; }} }}\n",
        html.display()
    );
    let path = format!("{own}/nginx.conf");
    fs::write(&path, configuration).unwrap();
    let running = Running::start(Command::new("nginx").args(["-p", &own.to_string(), "-c", &path]));
    eventually("nginx", || get(port, "/"));
    running
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Status and body of a GET.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

/// git http-backend behind nginx and fcgiwrap, over the directory of a site.
pub struct Http {
    _wrap: Running,
    _nginx: Running,
    _dir: tempfile::TempDir,
    pub port: u16,
}

impl Http {
    /// `extra` goes into nginx's location block.
    pub fn serve(site: &Site, extra: &str) -> Self {
        Self::serve_tls(site, extra, "")
    }

    /// Speaks no newer version of the protocol than the first.
    pub fn serve_old(site: &Site) -> Self {
        Self::start(site, "", "", "version=0")
    }

    /// `listen`: further lines of the server block.
    pub fn serve_tls(site: &Site, extra: &str, listen: &str) -> Self {
        Self::start(site, extra, listen, "$http_git_protocol")
    }

    fn start(site: &Site, extra: &str, listen: &str, protocol: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("wrap.sock");
        let wrap =
            Running::start(Command::new("fcgiwrap").arg("-s").arg(format!("unix:{}", socket.display())));
        let port = free_port();
        let backend = ["/usr/lib/git-core/git-http-backend", "/usr/libexec/git-core/git-http-backend"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("git-http-backend is installed");
        let config = format!(
            "daemon off; master_process off; pid {d}/pid; error_log {d}/error.log;
             events {{ worker_connections 64; }}
             http {{
               access_log {d}/access.log; client_max_body_size 0; client_body_temp_path {d}/b;
               fastcgi_temp_path {d}/f; proxy_temp_path {d}/p; uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;
               server {{
                 {listen}
                 listen 127.0.0.1:{port} {ssl};
                 location /old/ {{ return 302 /$uri_tail; }}
                 location / {{
                   {extra}
                   fastcgi_pass unix:{socket};
                   fastcgi_param SCRIPT_FILENAME {backend};
                   fastcgi_param GIT_HTTP_EXPORT_ALL 1;
                   fastcgi_param GIT_PROJECT_ROOT {root};
                   fastcgi_param PATH_INFO $uri;
                   fastcgi_param QUERY_STRING $query_string;
                   fastcgi_param REQUEST_METHOD $request_method;
                   fastcgi_param CONTENT_TYPE $content_type;
                   fastcgi_param CONTENT_LENGTH $content_length;
                   fastcgi_param REMOTE_USER $remote_user;
                   fastcgi_param GIT_PROTOCOL {protocol};
                   fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;
                 }}
               }}
             }}",
            d = dir.path().display(),
            ssl = if listen.is_empty() { "" } else { "ssl" },
            socket = socket.display(),
            root = site.dir.path().display(),
        );
        let config =
            config.replace("location /old/ { return 302 /$uri_tail; }", "rewrite ^/old/(.*)$ /$1 redirect;");
        let path = dir.path().join("nginx.conf");
        fs::write(&path, config).unwrap();
        fs::write(dir.path().join("htpasswd"), "user:{PLAIN}secret word\n").unwrap();
        let nginx = Running::start(
            Command::new("nginx").arg("-c").arg(&path).arg("-e").arg(dir.path().join("start.log")),
        );
        eventually("nginx", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { _wrap: wrap, _nginx: nginx, _dir: dir, port }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/site.git", self.port)
    }

    pub fn directory(&self) -> &Path {
        self._dir.path()
    }

    /// Lines of the access log.
    pub fn requests(&self) -> Vec<String> {
        let text = fs::read_to_string(self._dir.path().join("access.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
