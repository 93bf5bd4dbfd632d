"""The world that the guides speak of: hosts, a git server with TLS, Redis servers, a Sentinel, a cluster with TLS, a JVM,
an nginx and an application with JSON statistics, all real and all in a network of their own."""

import contextlib
import http.server
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import yaml

ADDRESSES = [f"10.0.{net}.{host}" for net in (0, 1) for host in (1, 2, 3)]
GIT_HOSTS = ("example.com", "example.org", "git.example.com", "git.example.org")
HOSTS = {"127.0.0.1": ("localhost", socket.gethostname(), "prometheus", *GIT_HOSTS),
         "10.0.0.1": ("redis-0",), "10.0.0.2": ("redis-1",), "10.0.0.3": ("redis-2",)}
PATIENCE = 60
SLEEPER = "public class Sleeper { public static void main(String[] a) throws Exception { Thread.sleep(Long.MAX_VALUE); } }"
MAPPING = "mappings:\n- match: requests.*\n  name: requests_total\n  labels: {what: $1}\n"


def run(*words, **more):
    return subprocess.run([str(word) for word in words], check=True, text=True, capture_output=True, **more).stdout


def until(what, condition):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            if condition():
                return
        time.sleep(0.1)
    raise SystemExit(f"error: {what} does not come up")


class GitServer(http.server.BaseHTTPRequestHandler):
    """git's own http-backend; every path of every host is the same repository."""

    protocol_version = "HTTP/1.1"
    repository = ""

    def do_GET(self):
        path, _, query = self.path.partition("?")
        inside = next((path[path.index(part):] for part in ("/info/", "/git-upload-pack", "/HEAD", "/objects/") if part in path), "/")
        variables = {"GIT_PROJECT_ROOT": self.repository, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": inside, "QUERY_STRING": query,
                     "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                     "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                     "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", "")}
        answer = subprocess.run(["git", "-c", "safe.directory=*", "http-backend"], env={**os.environ, **variables}, input=self.body(),
                                stdout=subprocess.PIPE, check=True).stdout
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_):
        pass


class Statistics(http.server.BaseHTTPRequestHandler):
    """An application with JSON statistics, and nginx's page."""

    def do_GET(self):
        body = b'{"pools": [{"name": "main", "used": 3, "waits": 17}]}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Stage:
    def __init__(self, binaries):
        self.binaries = binaries
        self.environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}:/usr/sbin"}
        self.processes, self.servers = [], []

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="guides-stage-"))
        try:
            self.network()
            self.certificates()
            self.git()
            self.redis()
            self.cluster()
            self.java()
            self.web()
        except BaseException:
            for log in sorted(self.folder.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-1000:]}", file=sys.stderr)
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.shutdown()
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *words, **more):
        log = open(self.folder / f"{len(self.processes)}.log", "w")
        self.processes.append(subprocess.Popen([str(word) for word in words], stdout=log, stderr=log, cwd=self.folder, **more))

    def network(self):
        run("ip", "link", "set", "lo", "up")
        for address in ADDRESSES:
            run("ip", "address", "add", f"{address}/32", "dev", "lo")
        hosts = self.folder / "hosts"
        hosts.write_text("".join(f"{address} {' '.join(names)}\n" for address, names in HOSTS.items()))
        run("mount", "--bind", hosts, "/etc/hosts")

    def certificates(self):
        names = ",".join([*(f"DNS:{name}" for name in GIT_HOSTS), *(f"IP:{address}" for address in ADDRESSES)])
        self.key, self.certificate, self.authority = (self.folder / name for name in ("key.pem", "certificate.pem", "ca.pem"))
        authority_key, request, more = (self.folder / name for name in ("ca-key.pem", "request.pem", "more.cnf"))
        new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
        run(*new, "-x509", "-days", "2", "-subj", "/CN=authority of the guides", "-keyout", authority_key, "-out", self.authority)
        run(*new, "-subj", "/CN=guides", "-keyout", self.key, "-out", request)
        more.write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n")
        run("openssl", "x509", "-req", "-days", "2", "-in", request, "-CA", self.authority, "-CAkey", authority_key, "-CAcreateserial",
            "-extfile", more, "-out", self.certificate)
        self.environment["GIT_SSL_CAINFO"] = str(self.authority)

    def serve(self, address, handler, context=None):
        server = http.server.ThreadingHTTPServer(address, handler)
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.servers.append(server)

    def git(self):
        self.clone = self.folder / "site"
        bare = self.folder / "site.git"
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
        self.git_words = ["git", *identity, "-C", self.clone]
        run("git", *identity, "init", "--quiet", "--bare", bare)
        run("git", *identity, "clone", "--quiet", bare, self.clone)
        self.push()
        run(*self.git_words, "push", "--quiet", "origin", "HEAD:refs/heads/preview/new-menu", "HEAD:refs/tags/v1.2.3")
        GitServer.repository = str(bare)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        self.serve(("127.0.0.1", 443), GitServer, context)

    def push(self):
        (self.clone / "public/html").mkdir(parents=True, exist_ok=True)
        for page in ("index.html", "public/html/index.html"):
            (self.clone / page).write_text(f"{time.time_ns()}\n")
        for words in (["add", "--all"], ["commit", "--quiet", "--message", "change"], ["push", "--quiet", "origin", "HEAD:main"]):
            run(*self.git_words, *words)

    def redis(self):
        for number, address in enumerate(ADDRESSES[:3]):
            replica = ["--replicaof", ADDRESSES[0], "6379", "--repl-diskless-sync-delay", "0"] if number else []
            self.redis_server(address, f"redis-{number}", *replica)
        for address in ADDRESSES[:3]:
            until(f"Redis at {address}", lambda: "PONG" in run("redis-cli", "-h", address, "ping"))
        for number, address in enumerate(ADDRESSES[:2]):
            settings = self.folder / f"sentinel-{number}.conf"
            settings.write_text(f"port 26379\nbind {address}\nprotected-mode no\nsentinel monitor mymaster {ADDRESSES[0]} 6379 2\n")
            self.start("redis-sentinel", settings)
            until(f"Sentinel at {address}", lambda: "PONG" in run("redis-cli", "-h", address, "-p", 26379, "ping"))

    def redis_server(self, address, name, *more):
        folder = self.folder / name
        folder.mkdir()
        self.start("redis-server", "--bind", address, "--bind-source-addr", address, "--dir", folder, "--save", "", "--protected-mode", "no", *more)

    def cluster(self):
        tls = ["--tls-cert-file", self.certificate, "--tls-key-file", self.key, "--tls-ca-cert-file", self.authority]
        as_server = [*tls, "--port", "0", "--tls-port", "6379", "--tls-auth-clients", "no", "--tls-cluster", "yes",
                     "--tls-replication", "yes", "--cluster-enabled", "yes"]
        for number, address in enumerate(ADDRESSES[3:]):
            self.redis_server(address, f"cluster-{number}", *as_server)
        client = ["redis-cli", "--tls", "--cacert", self.authority]
        for address in ADDRESSES[3:]:
            until(f"node {address}", lambda: "PONG" in run(*client, "-h", address, "ping"))
        run(*client, "--cluster", "create", *(f"{address}:6379" for address in ADDRESSES[3:]), "--cluster-yes")

    def java(self):
        (self.folder / "Sleeper.java").write_text(SLEEPER)
        remote = "-Dcom.sun.management.jmxremote"
        self.options = [f"{remote}.port=9010", f"{remote}.rmi.port=9010", f"{remote}.authenticate=false", f"{remote}.ssl=false"]
        self.start("java", *self.options, "-Djava.rmi.server.hostname=127.0.0.1", "Sleeper.java")
        until("the JVM", lambda: socket.create_connection(("127.0.0.1", 9010), 5).close() is None)

    def is_started_with(self, words):
        """A guide's command line of a JVM: its options are those of the one here."""
        told = [word for word in words if word.startswith("-D")]
        if sorted(told) != sorted(self.options):
            raise ValueError(f"{told} are not the options of the JVM that everything is tried with: {self.options}")

    def web(self):
        settings = self.folder / "nginx.conf"
        settings.write_text(
            f"daemon off; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx.log; events {{}}\n"
            "http { access_log off; server { listen 127.0.0.1:80; location /stub_status { stub_status; } } }\n")
        self.start("nginx", "-c", settings, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"})
        self.serve(("127.0.0.1", 8080), Statistics)

    # -- what a guide finds

    def furnish(self, work):
        """Files that a guide takes for granted."""
        (work / "config.yaml").write_text("hostPort: localhost:9010\n")
        (work / "mapping.yml").write_text(MAPPING)
        (work / "etc/redis/ca.pem").write_bytes(self.authority.read_bytes())
        for name in ("token", "webhook", "password"):
            (work / "secrets" / name).write_text(f"a-{name}-of-the-guides-0123456789\n")
        (work / "token").write_text((work / "secrets/token").read_text())
        (work / "stats.json").write_text('{"queue": {"length": 3}}\n')

    def choices(self, words):
        if words == "URL|FILE":
            return ["http://127.0.0.1:8080/stats", "stats.json"]
        raise ValueError(f"nothing knows what '{words}' may be")

    def kustomization(self, work, content):
        """Renders it beside the components."""
        source = pathlib.Path("images/kustomize").resolve()
        folder = work / "kustomize"
        shutil.copytree(source, folder)
        (folder / "deployment.yaml").write_text(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n"
            "  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: web}]}\n")
        (folder / "kustomization.yaml").write_text(content + "resources: [deployment.yaml]\n")
        shown = run("kubectl", "kustomize", folder)
        if "image: registry.example.com/pattern-containers/gitsync:0.1.0" not in shown:
            raise ValueError(f"the sidecar is not in what is rendered:\n{shown}")

    # -- whether a server of ours does its work

    def is_served(self, program, words):
        with contextlib.suppress(OSError, subprocess.CalledProcessError, StopIteration):
            match program:
                case "gitsync":
                    settings = dict(pairs(words))
                    if "--sources" in settings:
                        return are_served(yaml.safe_load(pathlib.Path(settings["--sources"]).read_text()))
                    root = pathlib.Path(settings["--root"])
                    link = root / settings.get("--link", pathlib.PurePath(settings["--repo"]).name)
                    return (link / "index.html").exists()
                case "redis-ambassador":
                    stamp = str(time.time_ns())
                    run("redis-cli", "set", "guides", stamp)
                    return run("redis-cli", "get", "guides").strip() == stamp
                case "metrics-adapter":
                    jmx = words[1] == "jmx"
                    address = words[2] if jmx else "127.0.0.1:9102"
                    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
                        page = answer.read().decode()
                    return not jmx or "jmx_scrape_error 0.0" in page
        return False


def are_served(listed):
    """Whether each source of a list has its link, or links in its folder."""
    places = [pathlib.Path(listed["root"], source.get("link", source["name"])) for source in listed["sources"]]
    return all((place / "index.html").exists() or any(place.glob("*/index.html")) for place in places)


def pairs(words):
    """`--name=value` and `--name value`."""
    at = 1
    while at < len(words):
        name, equals, value = words[at].partition("=")
        if not equals and at + 1 < len(words) and not words[at + 1].startswith("--"):
            at, value = at + 1, words[at + 1]
        yield name, value
        at += 1
