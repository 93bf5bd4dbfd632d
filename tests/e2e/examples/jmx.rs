//! The examples whose neighbour is a JVM. The servers cannot be pulled here, so their beans are stood in for, by
//! the names that each is known for; options of the JVM, sidecar and rules are those of the example. (The real
//! Tomcat and a real Cassandra are in `manifests::runs`.)

use anyhow::{Context, Result, ensure};
use e2e::{eventually, http};

use super::pod::{Network, Pod};
use super::{page_has, rendered};

/// One example: its workload, where its JVM's options are, beans, and samples that the page must have.
struct Example {
    name: &'static str,
    kind: &'static str,
    /// The variable with the options; a server that listens by itself has none.
    options: Option<&'static str>,
    beans: &'static [&'static str],
    samples: &'static [&'static str],
}

const EXAMPLES: [Example; 3] = [
    Example {
        name: "tomcat",
        kind: "Deployment",
        options: Some("CATALINA_OPTS"),
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
        options: Some("KAFKA_JMX_OPTS"),
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
    Example {
        name: "cassandra",
        kind: "StatefulSet",
        options: None,
        beans: &[
            "org.apache.cassandra.metrics:type=ClientRequest,scope=Read,name=Latency|99thPercentile|2500.0",
            "org.apache.cassandra.metrics:type=ClientRequest,scope=Read,name=Latency|Count|9",
            "org.apache.cassandra.metrics:type=ThreadPools,path=request,scope=MutationStage,name=PendingTasks|Value|4",
            "org.apache.cassandra.metrics:type=Storage,name=Load|Count|4096",
            "org.apache.cassandra.metrics:type=Client,name=connectedNativeClients|Value|6",
        ],
        samples: &[
            "cassandra_request_seconds{percentile=\"99\",request=\"Read\"} 0.0025",
            "cassandra_request_latency_total{request=\"Read\"} 9",
            "cassandra_pool_pendingtasks{path=\"request\",pool=\"MutationStage\"} 4",
            "cassandra_storage_load 4096",
            "cassandra_clients 6",
        ],
    },
];

/// What Cassandra's own start-up script gives its JVM.
const CASSANDRA: &str = "-Djava.rmi.server.hostname=127.0.0.1 -Dcom.sun.management.jmxremote.host=127.0.0.1 \
    -Dcom.sun.management.jmxremote.port=7199 -Dcom.sun.management.jmxremote.rmi.port=7199 \
    -Dcom.sun.management.jmxremote.authenticate=false -Dcom.sun.management.jmxremote.ssl=false";

fn runs(network: &Network, example: &Example) -> Result<()> {
    let mut pod = Pod::of(network, &rendered(example.name)?, example.kind, example.name)?;
    let options = match example.options {
        Some(name) => pod.value(example.name, name)?,
        None => CASSANDRA.to_owned(),
    };
    pod.stand_in(example.name, "jvm-app", &[])?;
    pod.command(example.name, &[&["/opt/java/bin/java", "-cp", "/app", "Beans"], example.beans].concat())?;
    pod.variable(example.name, "JAVA_TOOL_OPTIONS", &format!("{options} -Xmx64m"))?;
    pod.start()?;
    let (web, adapter) = (pod.port("jmx-metrics")?, pod.container("metrics-adapter-jmx"));
    for sample in example.samples.iter().chain(&["jvm_memory_used_bytes{area=\"Heap\"} "]) {
        eventually(sample, || page_has(web, "/metrics", &format!("\n{sample}")))
            .with_context(|| network.podman.logs(&adapter))?;
    }
    eventually("readiness", || http::page(web, "/readyz"))?;
    network.podman.expect_hardened(&adapter)?;

    // Rules change under the running Pod.
    let pid = network.podman.pid(&adapter)?;
    let rules =
        pod.file("metrics-adapter-jmx", "jmx.yaml")?.replace("name: jvm_memory_", "name: heap_and_more_");
    pod.rotate("metrics-adapter-jmx", &[("jmx.yaml", &rules)])?;
    eventually("new rules", || page_has(web, "/metrics", "\nheap_and_more_used_bytes{area=\"Heap\"} "))
        .with_context(|| network.podman.logs(&adapter))?;
    ensure!(network.podman.pid(&adapter)? == pid, "the adapter was restarted");
    Ok(())
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
