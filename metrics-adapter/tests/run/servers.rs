//! Ready modules against the real servers of Debian.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Adapter, Running, free_port, get, serve, text};

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    // Servers that drop privileges must get in.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

fn shows(adapter: &Adapter, series: &[&str]) -> String {
    adapter.shows(series)
}

/// Series with their values, and types of families, of what an exporter and we have in common.
fn series(page: &str) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let own = ["go_", "process_", "promhttp_", "metrics_adapter_", "nginxexporter_", "redis_exporter_"];
    let own = own.into_iter().chain(["haproxy_exporter_", "apache_exporter_"]).collect::<Vec<_>>();
    let (mut values, mut types) = (BTreeMap::new(), BTreeMap::new());
    for line in page.lines().filter(|line| !line.is_empty()) {
        let typed = line.strip_prefix("# TYPE ");
        if own.iter().any(|own| typed.unwrap_or(line).starts_with(own)) {
            continue;
        }
        if let Some((name, kind)) = typed.and_then(|line| line.split_once(' ')) {
            types.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            // The order of labels means nothing; none of the values here has a comma in it.
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            let mut labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
            labels.sort_unstable();
            values.insert(format!("{name}{{{}}}", labels.join(",")), value.to_owned());
        }
    }
    (values, types)
}

/// Every series of the well-known exporter is on our page, with the same type, and with the same value where it
/// does not change in between. Returns what only we have.
fn like_the_exporter(adapter: &Adapter, program: &str, arguments: &[&str], missing: &[&str]) -> Vec<String> {
    let (directory, port) = (directory(), free_port());
    let address = format!("127.0.0.1:{port}");
    let arguments: Vec<String> = arguments.iter().map(|word| word.replace("ADDRESS", &address)).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _exporter = serve(program, &arguments, port, directory.path());
    let theirs = || text(&get(([127, 0, 0, 1], port).into(), "/metrics", "").1);
    // The first scrape of each makes series of its own: commands, status codes.
    theirs();
    adapter.page();
    let mut tries = 0;
    let (types, ours, our_types, after) = loop {
        let (before, page, after) = (theirs(), adapter.page(), theirs());
        let ((before, types), (ours, our_types), (after, _)) =
            (series(&before), series(&page), series(&after));
        assert!(before.len() > 5, "{before:?}");
        let mut differences = Vec::new();
        for (name, value) in before {
            let bare = name.split('{').next().unwrap_or_default();
            if missing.contains(&bare) {
                continue;
            }
            let ours = ours.get(&name).unwrap_or_else(|| panic!("{name} is not on the page:\n{page}"));
            let (ours, same): (f64, f64) = (ours.parse().unwrap(), value.parse().unwrap());
            let steady = after.get(&name) == Some(&value) && bare != "redis_latency_percentiles_usec";
            if steady && (ours - same).abs() > 0.05 * same.abs() {
                differences.push(format!("{name} is {ours} and not {same}"));
            }
        }
        // A value may have gone there and back in between; what is read wrongly stays so.
        tries += 1;
        if differences.is_empty() {
            break (types, ours, our_types, after);
        }
        assert!(tries < 5, "{differences:?}");
    };
    for (name, kind) in types.iter().filter(|(name, _)| !missing.contains(&name.as_str())) {
        assert_eq!(our_types.get(name), Some(kind), "{name}");
    }
    ours.into_keys().filter(|name| !after.contains_key(name)).collect()
}

/// What php-fpm_exporter 2 and memcached_exporter 0.15 give by default, with `stats` of external storage: name and type.
/// Debian carries neither.
const PHP_FPM: &str = "up gauge, scrape_failures counter, start_since counter, accepted_connections counter, \
    listen_queue gauge, max_listen_queue counter, listen_queue_length gauge, idle_processes gauge, active_processes gauge, \
    total_processes gauge, max_active_processes counter, max_children_reached counter, slow_requests counter, \
    process_requests counter, process_last_request_memory gauge, process_last_request_cpu gauge, \
    process_request_duration gauge, process_state gauge";
const MEMCACHED: &str = "up gauge, uptime_seconds counter, time_seconds gauge, version gauge, \
    process_user_cpu_seconds_total counter, process_system_cpu_seconds_total counter, read_bytes_total counter, \
    written_bytes_total counter, current_connections gauge, max_connections gauge, connections_total counter, \
    connections_rejected_total counter, connections_yielded_total counter, connections_listener_disabled_total counter, \
    current_bytes gauge, limit_bytes gauge, commands_total counter, current_items gauge, items_total counter, \
    items_evicted_total counter, items_reclaimed_total counter, item_too_large_total counter, item_no_memory_total counter, \
    direct_reclaims_total counter, malloced_bytes gauge, accepting_connections gauge, lru_crawler_enabled gauge, \
    lru_crawler_sleep gauge, lru_crawler_to_crawl gauge, lru_crawler_maintainer_thread gauge, lru_crawler_hot_percent gauge, \
    lru_crawler_warm_percent gauge, lru_crawler_hot_max_factor gauge, lru_crawler_warm_max_factor gauge, \
    lru_crawler_starts_total counter, lru_crawler_reclaimed_total counter, lru_crawler_items_checked_total counter, \
    lru_crawler_moves_to_cold_total counter, lru_crawler_moves_to_warm_total counter, \
    lru_crawler_moves_within_lru_total counter, slab_current_items gauge, slab_items_age_seconds gauge, \
    slab_lru_hits_total counter, slab_items_crawler_reclaimed_total counter, slab_items_evicted_total counter, \
    slab_items_evicted_nonzero_total counter, slab_items_evicted_time_seconds counter, \
    slab_items_evicted_unfetched_total counter, slab_items_expired_unfetched_total counter, \
    slab_items_outofmemory_total counter, slab_items_reclaimed_total counter, slab_items_tailrepairs_total counter, \
    slab_mem_requested_bytes counter, slab_items_moves_to_cold counter, slab_items_moves_to_warm counter, \
    slab_items_moves_within_lru counter, slab_hot_items gauge, slab_warm_items gauge, slab_cold_items gauge, \
    slab_hot_age_seconds gauge, slab_warm_age_seconds gauge, slab_commands_total counter, slab_chunk_size_bytes gauge, \
    slab_chunks_per_page gauge, slab_current_pages gauge, slab_current_chunks gauge, slab_chunks_used gauge, \
    slab_chunks_free gauge, slab_chunks_free_end gauge, extstore_compact_lost_total counter, \
    extstore_compact_rescued_total counter, extstore_compact_skipped_total counter, extstore_pages_allocated_total counter, \
    extstore_pages_evicted_total counter, extstore_pages_reclaimed_total counter, extstore_pages_free gauge, \
    extstore_pages_used gauge, extstore_objects_evicted_total counter, extstore_objects_read_total counter, \
    extstore_objects_written_total counter, extstore_objects_used gauge, extstore_bytes_evicted_total counter, \
    extstore_bytes_written_total counter, extstore_bytes_read_total counter, extstore_bytes_used counter, \
    extstore_bytes_fragmented gauge, extstore_bytes_limit gauge, extstore_io_queue_depth gauge";

/// Every family of the list is on the page, with its type.
fn has_families(page: &str, prefix: &str, list: &str) {
    for family in list.split(", ") {
        let line = format!("# TYPE {prefix}{family}");
        assert!(page.lines().any(|known| known == line), "`{line}` is not on the page:\n{page}");
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
    let arguments =
        [&format!("-nginx.scrape-uri=http://127.0.0.1:{port}/status"), "-web.listen-address=ADDRESS"];
    let more = like_the_exporter(&adapter, "prometheus-nginx-exporter", &arguments, &[]);
    assert!(more.is_empty(), "{more:?}");
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
    let arguments =
        [&format!("--scrape_uri=http://127.0.0.1:{port}/server-status?auto"), "--telemetry.address=ADDRESS"];
    let more = like_the_exporter(&adapter, "prometheus-apache-exporter", &arguments, &[]);
    assert!(more.is_empty(), "{more:?}");
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
        "sources:\n- type: haproxy\n  address: unix:{0}\n- name: page\n  type: haproxy\n  labels: {{by: http}}\n  \
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
    let uri = format!("unix:{}", socket.display());
    let alone = Adapter::start(&format!("sources:\n- {{type: haproxy, address: '{uri}'}}\n"));
    let arguments = [&format!("--haproxy.scrape-uri={uri}"), "--web.listen-address=ADDRESS"];
    let more = like_the_exporter(&alone, "prometheus-haproxy-exporter", &arguments, &[]);
    assert_eq!(more, ["haproxy_process_idle_time_percent{}"]);
    let uri = format!("http://127.0.0.1:{stats}/stats;csv");
    let alone = Adapter::start(&format!("sources:\n- {{type: haproxy, url: '{uri}'}}\n"));
    let arguments = [&format!("--haproxy.scrape-uri={uri}"), "--web.listen-address=ADDRESS"];
    like_the_exporter(&alone, "prometheus-haproxy-exporter", &arguments, &[]);
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
                format!("phpfpm_up{{pool=\"www\",{place}}}"),
                format!("phpfpm_scrape_failures{{pool=\"www\",{place}}}"),
                format!("phpfpm_process_requests{{child=\"0\",pool=\"www\",{place}}}"),
                format!("phpfpm_process_state{{child=\"1\",pool=\"www\",{place},state=\"Idle\"}}"),
            ])
            .collect();
    shows(&adapter, &series.iter().map(String::as_str).collect::<Vec<_>>());
    has_families(&adapter.page(), "phpfpm_", PHP_FPM);
    let failures = format!("phpfpm_scrape_failures{{pool=\"www\",{place}}}");
    assert_eq!(adapter.value(&failures), Some(0.0));
    goes_down(&adapter, server, &format!("phpfpm_up{{pool=\"www\",{place}}}"), "php_fpm");
    assert!(adapter.value(&failures).unwrap() > 0.0);
}

#[test]
#[ignore = "needs memcached"]
fn memcached() {
    let (directory, port) = (directory(), free_port());
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let number = port.to_string();
    let external = format!("ext_path={}:64m", directory.path().join("external").display());
    let arguments = ["-u", "nobody", "-l", "127.0.0.1", "-p", &number, "-o", &external];
    let server = serve("memcached", &arguments, port, directory.path());
    let adapter = Adapter::start(&format!("sources:\n- type: memcached\n  address: 127.0.0.1:{port}\n"));
    let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::io::Write::write_all(
        &mut client,
        b"set k 0 0 1\r\nx\r\nget k\r\nget n\r\ncas k 0 0 1 0\r\nx\r\nquit\r\n",
    )
    .unwrap();
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
    has_families(&adapter.page(), "memcached_", MEMCACHED);
    // `cmd_set` of the server counts the `cas`, too.
    assert_eq!(adapter.value("memcached_commands_total{command=\"set\",status=\"hit\"}"), Some(1.0));
    assert_eq!(adapter.value("memcached_commands_total{command=\"cas\",status=\"badval\"}"), Some(1.0));
    goes_down(&adapter, server, "memcached_up", "memcached");
}

/// A proxy in front of a server, and a memcached that can be one: Debian's next release has it.
#[test]
#[ignore = "needs memcached, and the newer one of images/setup.sh"]
fn memcached_as_a_proxy() {
    const ROUTES: &str = r#"
        function mcp_config_pools() return mcp.pool({mcp.backend("b", "127.0.0.1", BACKEND)}) end
        function mcp_config_routes(pool)
            local routes = mcp.funcgen_new()
            local handle = routes:new_handle(pool)
            local function route(context)
                return function(request) return context:enqueue_and_wait(request, handle) end
            end
            routes:ready({n = "all", f = route})
            mcp.attach(mcp.CMD_ANY_STORAGE, routes)
        end"#;
    let (directory, backend, port) = (directory(), free_port(), free_port());
    let number = backend.to_string();
    let arguments = ["-u", "nobody", "-l", "127.0.0.1", "-p", &number];
    let _backend = serve("memcached", &arguments, backend, directory.path());
    let routes = directory.path().join("routes.lua");
    fs::write(&routes, ROUTES.replace("BACKEND", &number)).unwrap();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/memcached/usr");
    let libraries = fs::read_dir(format!("{root}/lib")).expect("images/setup.sh test fetches it");
    let libraries = libraries.map(|entry| entry.unwrap().path());
    let libraries = libraries.into_iter().find(|path| path.join("libc.so.6").exists()).unwrap();
    let loader = fs::read_dir(&libraries).unwrap().map(|entry| entry.unwrap().path());
    let loader = loader.into_iter().find(|path| path.to_string_lossy().contains("/ld-linux")).unwrap();
    let (number, config) = (port.to_string(), format!("proxy_config={}", routes.display()));
    let (libraries, program) = (libraries.display().to_string(), format!("{root}/bin/memcached"));
    let arguments = ["--library-path", &libraries, &program, "-u", "root", "-l", "127.0.0.1", "-p", &number];
    let arguments: Vec<&str> = arguments.into_iter().chain(["-o", &config]).collect();
    let server = serve(loader.to_str().unwrap(), &arguments, port, directory.path());
    let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::io::Write::write_all(&mut client, b"set k 0 0 1\r\nx\r\nget k\r\nquit\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut client, &mut answer).unwrap();
    assert_eq!(answer, "STORED\r\nVALUE k 0 1\r\nx\r\nEND\r\n");
    let adapter = Adapter::start(&format!("sources:\n- type: memcached\n  address: 127.0.0.1:{port}\n"));
    adapter.wait_for("memcached_proxy_config_reloads_total", 1.0);
    let page = shows(
        &adapter,
        &[
            "memcached_proxy_conn_requests_total",
            "memcached_proxy_conn_errors_total",
            "memcached_proxy_conn_oom_total",
            "memcached_proxy_req_active",
            "memcached_proxy_config_reload_fails_total",
            "memcached_proxy_config_cron_runs_total",
            "memcached_proxy_config_cron_fails_total",
            "memcached_proxy_backend_total",
            "memcached_proxy_backend_marked_bad_total",
            "memcached_proxy_backend_failed",
            "memcached_proxy_request_failed_depth_total",
        ],
    );
    assert!(page.contains("memcached_up 1\n"), "{page}");
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
#[ignore = "needs redis-server and prometheus-redis-exporter"]
fn redis_primary_and_replica() {
    let (directory, ports) = (directory(), [free_port(), free_port()]);
    let start = |port: u16, more: &[&str]| {
        let number = port.to_string();
        let mut all =
            vec!["--port", &number, "--bind", "127.0.0.1", "--save", "", "--enable-debug-command", "yes"];
        all.extend(["--latency-monitor-threshold", "1", "--slowlog-log-slower-than", "1000"]);
        all.extend(more);
        serve("redis-server", &all, port, directory.path())
    };
    let _primary = start(ports[0], &[]);
    let _replica = start(ports[1], &["--replicaof", &format!("127.0.0.1 {}", ports[0])]);
    let cli = |command: &str| {
        let port = ports[0].to_string();
        let arguments = ["-p", &port].into_iter().chain(command.split(' '));
        assert!(std::process::Command::new("redis-cli").args(arguments).output().unwrap().status.success());
    };
    for command in ["set k v", "set e v ex 1000", "-n 3 set k v", "lpush k v", "debug sleep 0.01", "nonsense"]
    {
        cli(command);
    }
    for (port, link) in [(ports[0], "redis_connected_slaves"), (ports[1], "redis_slave_expires_tracked_keys")]
    {
        let address = format!("127.0.0.1:{port}");
        let adapter = Adapter::start(&format!("sources:\n- {{type: redis, address: '{address}'}}\n"));
        let online = format!(
            "redis_connected_slave_lag_seconds{{slave_ip=\"127.0.0.1\",slave_port=\"{}\",slave_state=\"online\"}}",
            ports[1]
        );
        let wanted = [link, &online];
        adapter.shows(&wanted[..if port == ports[0] { 2 } else { 1 }]);
        let arguments = [&format!("-redis.addr=redis://{address}"), "-web.listen-address=ADDRESS"];
        let missing = [
            "redis_last_key_groups_scrape_duration_milliseconds",
            "redis_target_scrape_request_errors_total",
        ];
        let more = like_the_exporter(&adapter, "prometheus-redis-exporter", &arguments, &missing);
        // What newer versions of the exporter have.
        assert!(more.iter().all(|name| name.ends_with("{}")), "{more:?}");
        if port == ports[0] {
            // Other slow commands may have come in between.
            for name in [
                "latency_spike_duration_seconds{event_name=\"command\"}",
                "last_slow_execution_duration_seconds",
            ] {
                assert!(adapter.value(&format!("redis_{name}")).unwrap() >= 0.001, "{name}");
            }
        }
    }
}

#[test]
#[ignore = "needs zookeeper"]
fn zookeeper() {
    let (directory, port) = (directory(), free_port());
    let config = format!(
        "dataDir={}\nclientPortAddress=127.0.0.1\nclientPort={port}\n4lw.commands.whitelist=mntr,ruok\nadmin.enableServer=false\n",
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
    assert_eq!(
        (adapter.value(&at("zk_ruok")), adapter.value(&at("zk_server_leader"))),
        (Some(1.0), Some(0.0))
    );
    let page = adapter.page();
    let version = page.lines().find_map(|line| line.strip_prefix("zk_version{version=\"")).unwrap();
    let version = version.split('"').next().unwrap();
    assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{version}");
    goes_down(&adapter, server, &at("zk_up"), "zookeeper");
}

/// What a node's script leaves behind: the node itself, and Erlang's port mapper.
struct Node {
    pid_file: std::path::PathBuf,
    mapper: u16,
}

impl Drop for Node {
    fn drop(&mut self) {
        let run = |program: &str, arguments: &[&str]| {
            let output = std::process::Command::new(program).args(arguments).output();
            output.is_ok_and(|output| output.status.success())
        };
        if let Ok(pid) = fs::read_to_string(&self.pid_file) {
            run("kill", &["-KILL", pid.trim()]);
        }
        let port = self.mapper.to_string();
        let start = std::time::Instant::now();
        // It stays as long as it knows the node.
        while !run("epmd", &["-port", &port, "-kill"]) && start.elapsed().as_secs() < 10 {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

#[test]
#[ignore = "needs rabbitmq-server"]
fn rabbitmq() {
    let directory = directory();
    let [amqp, http, mapper, nodes] = [0; 4].map(|_| free_port());
    let base = directory.path().display();
    fs::write(directory.path().join("plugins"), "[rabbitmq_management].\n").unwrap();
    // Statistics are made every 5 seconds by default.
    let config = format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\nmanagement.tcp.port = {http}\nmanagement.tcp.ip = 127.0.0.1\n\
         collect_statistics_interval = 500\n"
    );
    fs::write(directory.path().join("rabbitmq.conf"), config).unwrap();
    let settings = [
        format!("HOME={base}"),
        format!("ERL_EPMD_PORT={mapper}"),
        "ERL_EPMD_ADDRESS=127.0.0.1".to_owned(),
        format!("RABBITMQ_DIST_PORT={nodes}"),
        "RABBITMQ_NODENAME=fixture@localhost".to_owned(),
        format!("RABBITMQ_MNESIA_BASE={base}/mnesia"),
        format!("RABBITMQ_PID_FILE={base}/pid"),
        "RABBITMQ_LOGS=-".to_owned(),
        format!("RABBITMQ_ENABLED_PLUGINS_FILE={base}/plugins"),
        format!("RABBITMQ_CONFIG_FILE={base}/rabbitmq.conf"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 1:1".to_owned(),
        "/usr/lib/rabbitmq/bin/rabbitmq-server".to_owned(),
    ];
    let node = Node { pid_file: directory.path().join("pid"), mapper };
    let arguments: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = serve("env", &arguments, http, directory.path());
    let ask = |method: &str, path: &str, body: &str| {
        let url = format!("http://127.0.0.1:{http}/api/{path}");
        let arguments = ["-sf", "-u", "guest:guest", "-H", "content-type: application/json", "-X", method];
        let mut command = std::process::Command::new("curl");
        let output = command.args(arguments).args(["-d", body, &url]).output().unwrap();
        assert!(output.status.success(), "{path}: {}", text(&output.stdout));
    };
    crate::harness::eventually("the broker", || {
        let url = format!("http://127.0.0.1:{http}/api/health/checks/node-is-quorum-critical");
        let output = std::process::Command::new("curl").args(["-sf", "-u", "guest:guest", &url]).output();
        output.unwrap().status.success().then_some(())
    });
    ask("PUT", "queues/%2f/orders", r#"{"durable":true,"arguments":{"x-max-length":9}}"#);
    let message = r#"{"properties":{},"routing_key":"orders","payload":"hello","payload_encoding":"string"}"#;
    ask("POST", "exchanges/%2f/amq.direct/publish", message);
    ask("PUT", "exchanges/%2f/shop", r#"{"type":"fanout"}"#);
    ask("POST", "bindings/%2f/e/shop/q/orders", "{}");
    for _ in 0..3 {
        ask("POST", "exchanges/%2f/shop/publish", message);
    }
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("password"), "guest\n").unwrap();
    fs::write(files.path().join("wrong"), "falsch\n").unwrap();
    let source = |name: &str, file: &str| {
        format!(
            "- {{name: {name}, type: rabbitmq, url: 'http://127.0.0.1:{http}', username: guest, password_file: {file}, labels: {{as: {name}}}}}\n"
        )
    };
    let yaml = format!("sources:\n{}{}", source("right", "password"), source("wrong", "wrong"));
    let adapter = Adapter::start_in(files, &yaml, &[]);
    adapter.wait_for("metrics_adapter_source_up{source=\"right\",type=\"rabbitmq\"}", 1.0);
    let page = adapter.page();
    let cluster =
        page.split("rabbitmq_queues{as=\"right\",cluster=\"").nth(1).unwrap().split('"').next().unwrap();
    let at = |name: &str| format!("rabbitmq_{name}{{as=\"right\",cluster=\"{cluster}\"}}");
    let queue = |name: &str| {
        format!(
            "rabbitmq_queue_{name}{{as=\"right\",cluster=\"{cluster}\",durable=\"true\",queue=\"orders\",self=\"1\",vhost=\"/\"}}"
        )
    };
    let of_node = |name: &str| {
        format!("rabbitmq_{name}{{as=\"right\",cluster=\"{cluster}\",node=\"fixture@localhost\",self=\"1\"}}")
    };
    let up = format!("rabbitmq_up{{as=\"right\",cluster=\"{cluster}\",node=\"fixture@localhost\"}}");
    assert_eq!(adapter.value(&up), Some(1.0));
    adapter.wait_for(&queue("messages_ready"), 3.0);
    adapter.wait_for(&queue("messages_published_total"), 3.0);
    adapter.wait_for(&at("queue_messages_global"), 3.0);
    assert_eq!(adapter.value(&queue("max_length")), Some(9.0));
    let exchange = format!(
        "rabbitmq_exchange_messages_published_in_total{{as=\"right\",cluster=\"{cluster}\",exchange=\"shop\",vhost=\"/\"}}"
    );
    adapter.wait_for(&exchange, 3.0);
    let names = ["channels", "connections", "consumers", "queues", "exchanges"].map(at);
    let of_queue = [
        "messages",
        "consumers",
        "memory",
        "message_bytes",
        "messages_ram",
        "reductions_total",
        "messages_redelivered_total",
        "messages_publish_rate",
        "gc_min_heap",
        "gc_minor_collections_total",
        "idle_since_seconds",
    ];
    let of_queue = of_queue.map(queue);
    let state = queue("state").replace(",vhost=", ",state=\"idle\",vhost=");
    adapter.wait_for(&state, 1.0);
    let module = format!(
        "rabbitmq_module_scrape_duration_seconds{{as=\"right\",cluster=\"{cluster}\",module=\"queue\",node=\"fixture@localhost\"}}"
    );
    assert!(adapter.value(&module).is_some_and(|seconds| seconds > 0.0));
    let in_node = [
        "uptime",
        "running",
        "node_mem_used",
        "fd_used",
        "sockets_available",
        "partitions",
        "node_disk_free",
    ];
    let of_node = in_node.map(of_node);
    let all = names.iter().chain(&of_queue).chain(&of_node).map(String::as_str).collect::<Vec<_>>();
    adapter.shows(&all);
    assert_eq!(adapter.value("rabbitmq_up{as=\"wrong\"}"), Some(0.0));
    assert!(adapter.problem("wrong").contains("401"), "{}", adapter.problem("wrong"));
    assert!(!adapter.get("/status.json", "").contains("falsch"));
    drop(node);
    drop(server);
    adapter.wait_for(&up, 0.0);
}
