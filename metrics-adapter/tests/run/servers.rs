//! Ready modules against the real servers of Debian.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Adapter, Running, free_port, get, serve};

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    // Servers that drop privileges must get in.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

fn shows(adapter: &Adapter, series: &[&str]) {
    let page = adapter.page();
    for wanted in series {
        let found =
            page.lines().any(|line| line.strip_prefix(wanted).is_some_and(|rest| rest.starts_with(' ')));
        assert!(found, "{wanted} is not on the page:\n{page}\n{}", adapter.get("/status.json", ""));
    }
}

/// The server is ended; its module says so, and nothing else changes.
fn goes_down(adapter: &Adapter, server: Running, up: &str, source: &str) {
    drop(server);
    adapter.wait_for(up, 0.0);
    assert_eq!(
        adapter.value(&format!("metrics_adapter_source_up{{source=\"{source}\",type=\"{source}\"}}")),
        Some(0.0)
    );
}

#[test]
#[ignore = "needs nginx"]
fn nginx() {
    let (directory, port) = (directory(), free_port());
    let config = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off;\n\
         server {{ listen 127.0.0.1:{port}; location = /status {{ stub_status; }} }} }}\n"
    );
    fs::write(directory.path().join("nginx.conf"), config).unwrap();
    let prefix = directory.path().to_str().unwrap().to_owned();
    let server = serve("/usr/sbin/nginx", &["-p", &prefix, "-c", "nginx.conf"], port, directory.path());
    let adapter =
        Adapter::start(&format!("sources:\n- type: nginx\n  url: http://127.0.0.1:{port}/status\n"));
    shows(
        &adapter,
        &[
            "nginx_up",
            "nginx_connections_active",
            "nginx_connections_accepted",
            "nginx_connections_handled",
            "nginx_connections_reading",
            "nginx_connections_writing",
            "nginx_connections_waiting",
            "nginx_http_requests_total",
        ],
    );
    let before = adapter.value("nginx_http_requests_total").unwrap();
    get(([127, 0, 0, 1], port).into(), "/", "");
    assert!(adapter.value("nginx_http_requests_total").unwrap() >= before + 2.0);
    goes_down(&adapter, server, "nginx_up", "nginx");
}

#[test]
#[ignore = "needs apache2"]
fn apache() {
    let (directory, port) = (directory(), free_port());
    let modules = "/usr/lib/apache2/modules";
    let config = format!(
        "ServerRoot {0}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {0}/pid\nErrorLog {0}/error\n\
         LoadModule mpm_event_module {modules}/mod_mpm_event.so\nLoadModule authz_core_module {modules}/mod_authz_core.so\n\
         LoadModule status_module {modules}/mod_status.so\nUser www-data\nGroup www-data\nDefaultRuntimeDir {0}\n\
         <Location /server-status>\nSetHandler server-status\n</Location>\n",
        directory.path().display()
    );
    let path = directory.path().join("apache.conf");
    fs::write(&path, config).unwrap();
    let arguments = ["-X", "-f", path.to_str().unwrap()];
    let server = serve("/usr/sbin/apache2", &arguments, port, directory.path());
    let adapter =
        Adapter::start(&format!("sources:\n- type: apache\n  url: http://127.0.0.1:{port}/server-status\n"));
    shows(
        &adapter,
        &[
            "apache_up",
            "apache_accesses_total",
            "apache_sent_kilobytes_total",
            "apache_uptime_seconds_total",
            "apache_workers{state=\"busy\"}",
            "apache_workers{state=\"idle\"}",
            "apache_scoreboard{state=\"reply\"}",
            "apache_scoreboard{state=\"open_slot\"}",
            "apache_cpu_time_ms_total{type=\"user\"}",
            "apache_connections{state=\"total\"}",
            "apache_version",
        ],
    );
    assert!(adapter.page().contains("apache_info{mpm=\"event\",version=\"Apache/2.4"));
    goes_down(&adapter, server, "apache_up", "apache");
}

#[test]
#[ignore = "needs haproxy"]
fn haproxy() {
    let (directory, port) = (directory(), free_port());
    let stats = free_port();
    let config = format!(
        "global\n stats socket {}/haproxy.sock mode 600\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n\
         timeout connect 5s\nfrontend web\n bind 127.0.0.1:{port}\n default_backend app\nbackend app\n\
         server one 127.0.0.1:1 check\n server two 127.0.0.1:2\nfrontend stats\n bind 127.0.0.1:{stats}\n stats enable\n stats uri /stats\n",
        directory.path().display()
    );
    fs::write(directory.path().join("haproxy.cfg"), config).unwrap();
    let server = serve("/usr/sbin/haproxy", &["-db", "-f", "haproxy.cfg"], port, directory.path());
    let socket = directory.path().join("haproxy.sock");
    let adapter = Adapter::start(&format!(
        "sources:\n- type: haproxy\n  address: unix:{}\n- name: page\n  type: haproxy\n  labels: {{by: http}}\n  \
         url: http://127.0.0.1:{stats}/stats;csv\n",
        socket.display()
    ));
    adapter.wait_for("haproxy_server_up{backend=\"app\",server=\"one\"}", 0.0);
    shows(
        &adapter,
        &[
            "haproxy_up",
            "haproxy_frontend_current_sessions{frontend=\"web\"}",
            "haproxy_frontend_http_responses_total{code=\"2xx\",frontend=\"web\"}",
            "haproxy_backend_up{backend=\"app\"}",
            "haproxy_server_up{backend=\"app\",server=\"two\"}",
            "haproxy_server_bytes_in_total{backend=\"app\",server=\"two\"}",
            "haproxy_process_idle_time_percent",
            "haproxy_up{by=\"http\"}",
            "haproxy_frontend_current_sessions{by=\"http\",frontend=\"web\"}",
        ],
    );
    assert!(adapter.page().contains("haproxy_version_info{release_date="));
    goes_down(&adapter, server, "haproxy_up", "haproxy");
}

#[test]
#[ignore = "needs php-fpm"]
fn php_fpm() {
    let (directory, port) = (directory(), free_port());
    let config = format!(
        "[global]\nerror_log = error.log\ndaemonize = no\n[www]\nlisten = 127.0.0.1:{port}\nuser = nobody\ngroup = nogroup\n\
         pm = static\npm.max_children = 2\npm.status_path = /status\n"
    );
    fs::write(directory.path().join("fpm.conf"), config).unwrap();
    let programs = fs::read_dir("/usr/sbin").unwrap().flatten().map(|entry| entry.path());
    let mut programs = programs
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("php-fpm")));
    let program = programs.next().expect("php-fpm");
    let prefix = directory.path().to_str().unwrap();
    let arguments = ["-F", "-R", "-p", prefix, "-y", "fpm.conf"];
    let server = serve(program.to_str().unwrap(), &arguments, port, directory.path());
    let adapter = Adapter::start(&format!("sources:\n- type: php_fpm\n  address: 127.0.0.1:{port}\n"));
    let place = format!("scrape_uri=\"tcp://127.0.0.1:{port}/status\"");
    let series: Vec<String> =
        ["accepted_connections", "idle_processes", "total_processes", "listen_queue", "start_since"]
            .iter()
            .map(|name| format!("phpfpm_{name}{{pool=\"www\",{place}}}"))
            .chain([
                format!("phpfpm_up{{{place}}}"),
                format!("phpfpm_process_requests{{child=\"0\",pool=\"www\",{place}}}"),
                format!("phpfpm_process_state{{child=\"1\",pool=\"www\",{place},state=\"Idle\"}}"),
            ])
            .collect();
    shows(&adapter, &series.iter().map(String::as_str).collect::<Vec<_>>());
    goes_down(&adapter, server, &format!("phpfpm_up{{{place}}}"), "php_fpm");
}

#[test]
#[ignore = "needs memcached"]
fn memcached() {
    let (directory, port) = (directory(), free_port());
    let number = port.to_string();
    let server =
        serve("memcached", &["-u", "nobody", "-l", "127.0.0.1", "-p", &number], port, directory.path());
    let adapter = Adapter::start(&format!("sources:\n- type: memcached\n  address: 127.0.0.1:{port}\n"));
    let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::io::Write::write_all(&mut client, b"set k 0 0 1\r\nx\r\nget k\r\nget n\r\nquit\r\n").unwrap();
    std::io::Read::read_to_end(&mut client, &mut Vec::new()).unwrap();
    adapter.wait_for("memcached_commands_total{command=\"get\",status=\"hit\"}", 1.0);
    shows(
        &adapter,
        &[
            "memcached_up",
            "memcached_commands_total{command=\"get\",status=\"miss\"}",
            "memcached_commands_total{command=\"set\",status=\"hit\"}",
            "memcached_current_items",
            "memcached_limit_bytes",
            "memcached_max_connections",
            "memcached_slab_current_items{slab=\"1\"}",
            "memcached_slab_chunk_size_bytes{slab=\"1\"}",
            "memcached_malloced_bytes",
        ],
    );
    goes_down(&adapter, server, "memcached_up", "memcached");
}

#[test]
#[ignore = "needs redis-server"]
fn redis() {
    let (directory, port) = (directory(), free_port());
    let number = port.to_string();
    let arguments = ["--port", &number, "--bind", "127.0.0.1", "--save", "", "--requirepass", "geheim"];
    let server = serve("redis-server", &arguments, port, directory.path());
    let set = std::process::Command::new("redis-cli")
        .args(["-p", &number, "-a", "geheim", "set", "k", "v"])
        .output();
    assert!(set.unwrap().status.success());
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("password"), "geheim\n").unwrap();
    fs::write(files.path().join("wrong"), "falsch\n").unwrap();
    let source = |name: &str, file: &str| {
        format!(
            "- name: {name}\n  type: redis\n  labels: {{as: {name}}}\n  address: 127.0.0.1:{port}\n  password_file: {file}\n"
        )
    };
    let yaml = format!("sources:\n{}{}", source("right", "password"), source("wrong", "wrong"));
    let adapter = Adapter::start_in(files, &yaml, &[]);
    shows(
        &adapter,
        &[
            "redis_up{as=\"right\"}",
            "redis_connected_clients{as=\"right\"}",
            "redis_memory_used_bytes{as=\"right\"}",
            "redis_commands_processed_total{as=\"right\"}",
            "redis_commands_total{as=\"right\",cmd=\"set\"}",
            "redis_commands_duration_seconds_total{as=\"right\",cmd=\"set\"}",
            "redis_db_keys{as=\"right\",db=\"db0\"}",
            "redis_config_maxmemory{as=\"right\"}",
            "redis_slowlog_length{as=\"right\"}",
            "redis_start_time_seconds{as=\"right\"}",
        ],
    );
    let page = adapter.page();
    assert!(page.contains("redis_instance_info{as=\"right\"") && page.contains("role=\"master\""), "{page}");
    assert_eq!(adapter.value("redis_up{as=\"wrong\"}"), Some(0.0));
    assert!(adapter.problem("wrong").contains("refuses the password"));
    for shown in [page, adapter.get("/", ""), adapter.get("/status.json", "")] {
        assert!(!shown.contains("geheim") && !shown.contains("falsch"));
    }
    drop(server);
    adapter.wait_for("redis_up{as=\"right\"}", 0.0);
}

#[test]
#[ignore = "needs zookeeper"]
fn zookeeper() {
    let (directory, port) = (directory(), free_port());
    let config = format!(
        "dataDir={}\nclientPortAddress=127.0.0.1\nclientPort={port}\n4lw.commands.whitelist=mntr\nadmin.enableServer=false\n",
        directory.path().display()
    );
    fs::write(directory.path().join("zoo.cfg"), config).unwrap();
    // Its manifest names what it needs.
    let class_path = "/usr/share/java/zookeeper.jar";
    let main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
    let arguments = ["-Xmx128m", "-cp", class_path, main, "zoo.cfg"];
    let server = serve("java", &arguments, port, directory.path());
    let adapter = Adapter::start(&format!("sources:\n- type: zookeeper\n  address: 127.0.0.1:{port}\n"));
    let at = |name: &str| format!("{name}{{zk_host=\"127.0.0.1:{port}\"}}");
    adapter.wait_for(&at("zk_up"), 1.0);
    let names = [
        "zk_avg_latency",
        "zk_znode_count",
        "zk_packets_received",
        "zk_server_leader",
        "zk_num_alive_connections",
    ];
    shows(&adapter, &names.map(at).iter().map(String::as_str).collect::<Vec<_>>());
    goes_down(&adapter, server, &at("zk_up"), "zookeeper");
}
