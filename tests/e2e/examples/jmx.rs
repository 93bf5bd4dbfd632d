//! The examples whose neighbour is a JVM. Cassandra is a real one, of version 2.1. The other servers cannot be had as
//! images here, so their beans are stood in for, by the names that each is known for; options of the JVM, sidecar and
//! rules are those of the example. (The real Tomcat is in `manifests::runs`.)

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::parts::CqlClient;
use e2e::{eventually, http, within};

use super::pod::{Network, Pod};
use super::{page_has, rendered};

/// One example: its workload, the variable with its JVM's options, beans, and samples that the page must have.
struct Example {
    name: &'static str,
    kind: &'static str,
    options: &'static str,
    beans: &'static [&'static str],
    samples: &'static [&'static str],
}

const EXAMPLES: [Example; 2] = [
    Example {
        name: "tomcat",
        kind: "Deployment",
        options: "CATALINA_OPTS",
        beans: &[
            "Catalina:type=GlobalRequestProcessor,name=\"http-nio-8080\"|requestCount|3",
            "Catalina:type=GlobalRequestProcessor,name=\"http-nio-8080\"|processingTime|1500",
            "Catalina:type=ThreadPool,name=\"http-nio-8080\"|currentThreadsBusy|2",
            "Catalina:type=Manager,host=localhost,context=/shop|activeSessions|5",
        ],
        samples: &[
            "tomcat_requestcount_total{connector=\"http-nio-8080\"} 3",
            "tomcat_processing_seconds_total{connector=\"http-nio-8080\"} 1.5",
            "tomcat_threadpool_currentthreadsbusy{connector=\"http-nio-8080\"} 2",
            "tomcat_activesessions{context=\"/shop\",host=\"localhost\"} 5",
            "jvm_threads_current ",
        ],
    },
    Example {
        name: "kafka",
        kind: "StatefulSet",
        options: "KAFKA_JMX_OPTS",
        beans: &[
            "kafka.server:type=BrokerTopicMetrics,name=MessagesInPerSec|Count|7",
            "kafka.server:type=BrokerTopicMetrics,name=BytesInPerSec,topic=orders|Count|700",
            "kafka.server:type=ReplicaManager,name=UnderReplicatedPartitions|Value|1",
            "kafka.controller:type=KafkaController,name=ActiveControllerCount|Value|1",
            "kafka.network:type=RequestMetrics,name=TotalTimeMs,request=Produce|99thPercentile|12.5",
            "kafka.log:type=Log,name=Size,topic=orders,partition=0|Value|4096",
        ],
        samples: &[
            "kafka_broker_messagesin_total 7",
            "kafka_topic_bytesin_total{topic=\"orders\"} 700",
            "kafka_replicas_underreplicatedpartitions 1",
            "kafka_controller_activecontrollercount 1",
            "kafka_request_seconds{percentile=\"99\",request=\"Produce\"} 0.0125",
            "kafka_log_size_bytes{partition=\"0\",topic=\"orders\"} 4096",
        ],
    },
];

/// A reading of the Pod's JVM: the page has these samples, and the sidecar may do no more than it must.
fn is_read(network: &Network, pod: &Pod<'_>, samples: &[&str]) -> Result<()> {
    let (web, adapter) = (pod.port("jmx-metrics")?, pod.container("metrics-adapter-jmx"));
    for sample in samples.iter().chain(&["jvm_memory_used_bytes{area=\"Heap\"} "]) {
        eventually(sample, || page_has(web, "/metrics", &format!("\n{sample}")))
            .with_context(|| network.podman.logs(&adapter))?;
    }
    eventually("readiness", || http::page(web, "/readyz"))?;
    network.podman.expect_hardened(&adapter)
}

/// Rules change under the running Pod.
fn obeys(network: &Network, pod: &Pod<'_>, rules: &str, samples: &[&str]) -> Result<()> {
    let (web, adapter) = (pod.port("jmx-metrics")?, pod.container("metrics-adapter-jmx"));
    let pid = network.podman.pid(&adapter)?;
    pod.rotate("metrics-adapter-jmx", &[("jmx.yaml", rules)])?;
    for sample in samples {
        eventually(sample, || page_has(web, "/metrics", &format!("\n{sample}")))
            .with_context(|| network.podman.logs(&adapter))?;
    }
    ensure!(network.podman.pid(&adapter)? == pid, "the adapter was restarted");
    Ok(())
}

fn runs(network: &Network, example: &Example) -> Result<()> {
    let mut pod = Pod::of(network, &rendered(example.name)?, example.kind, example.name)?;
    let options = pod.value(example.name, example.options)?;
    pod.stand_in(example.name, "jvm-app", &[])?;
    pod.command(example.name, &[&["/opt/java/bin/java", "-cp", "/app", "Beans"], example.beans].concat())?;
    pod.variable(example.name, "JAVA_TOOL_OPTIONS", &format!("{options} -Xmx64m"))?;
    pod.start()?;
    is_read(network, &pod, example.samples)?;
    let rules =
        pod.file("metrics-adapter-jmx", "jmx.yaml")?.replace("name: jvm_memory_", "name: heap_and_more_");
    obeys(network, &pod, &rules, &["heap_and_more_used_bytes{area=\"Heap\"} "])
}

#[test]
#[ignore = "needs podman, the images and kubectl"]
fn servers_in_java_are_read_and_rules_change_under_the_running_pods() -> Result<()> {
    let network = Network::new()?;
    for example in &EXAMPLES {
        runs(&network, example).with_context(|| example.name)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs podman, the images and kubectl"]
fn a_real_cassandra_is_read_and_the_ready_rules_take_over_under_the_running_pod() -> Result<()> {
    let network = Network::new()?;
    let mut pod = Pod::of(&network, &rendered("cassandra")?, "StatefulSet", "cassandra")?;
    pod.stand_in("cassandra", "cassandra", &[])?;
    // One small node, which is its own seed.
    let name = pod.name.clone();
    for (from, to) in [("cassandra-0.cassandra", name.as_str()), ("1G", "192M"), ("256M", "48M")] {
        pod.say(from, to)?;
    }
    pod.start()?;
    let cql = pod.port("cql")?;
    let mut client = within(Duration::from_secs(90), "Cassandra", || CqlClient::connect(cql))
        .with_context(|| network.podman.logs(&pod.container("cassandra")))?;
    client.say(
        "CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    )?;
    client.say("CREATE TABLE shop.orders (id int PRIMARY KEY, total int)")?;
    let start = Instant::now();
    for id in 0..3 {
        client.say(&format!("INSERT INTO shop.orders (id, total) VALUES ({id}, 5)"))?;
    }
    let waited = start.elapsed().as_secs_f64();
    client.say("SELECT * FROM shop.orders WHERE id = 1")?;

    let samples = [
        "cassandra_clients 1",
        "cassandra_storage_load ",
        "cassandra_pool_pendingtasks{path=\"request\",pool=\"MutationStage\"} 0",
        "cassandra_pool_activetasks{path=\"transport\",pool=\"Native-Transport-Requests\"} ",
        "cassandra_request_latency_total{request=\"Write\"} 3",
        "cassandra_request_latency_total{request=\"Read\"} 1",
        "cassandra_request_timeouts_total{request=\"Write\"} 0",
        "cassandra_request_seconds{percentile=\"99\",request=\"Read\"} ",
    ];
    is_read(&network, &pod, &samples)?;
    // The unit: no write took longer than its client waited for all of them.
    let longest = "\ncassandra_request_seconds{percentile=\"99\",request=\"Write\"} ";
    let page = page_has(pod.port("jmx-metrics")?, "/metrics", longest)?;
    let (_, figure) = page.split_once(longest).context("not there")?;
    let longest: f64 = figure.lines().next().unwrap_or_default().parse()?;
    ensure!(0.0 < longest && longest <= waited, "{longest} s of {waited} s");
    // Every rule of the example matches something; with one that doesn't, this ends with 1.
    let adapter = pod.container("metrics-adapter-jmx");
    let lint = ["/metrics-adapter", "jmx", "lint", "/etc/metrics-adapter-jmx/jmx.yaml"];
    network.podman.run(&[&["exec", adapter.as_str()], &lint[..]].concat())?;

    let ready_made = "hostPort: 127.0.0.1:7199\nincludes: [\"builtin:cassandra\"]\n";
    let samples = [
        "cassandra_clientrequest_latency{clientrequest=\"Write\"} 3",
        "cassandra_columnfamily_writelatency{columnfamily=\"orders\",keyspace=\"shop\"} 3",
        "cassandra_columnfamily_writelatency_percentile{columnfamily=\"orders\",keyspace=\"shop\",quantile=\"0.99\"} ",
    ];
    obeys(&network, &pod, ready_made, &samples)
}
