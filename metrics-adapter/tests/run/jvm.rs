//! JVMs in the run mode: over RMI and over Jolokia, with rules of one's own and with those that come along.

use std::fs;
use std::path::Path;

use crate::harness::{Adapter, Running, command, free_port, serve, text};
use crate::java::{Jvm, agent};

#[test]
#[ignore = "needs a JDK and libjolokia-core-java"]
fn rmi_and_jolokia_give_the_same_and_have_labels_rules_and_intervals() {
    let (mut jvm, port) = agent("me:s3cret");
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("password"), "s3cret\n").unwrap();
    fs::write(directory.path().join("wrong"), "falsch\n").unwrap();
    let rules = r#"
  rules:
  - pattern: 'fixture<type=Shapes, name=(\w+)><>(Int|Long)'
    name: shapes_$2
    labels: {shape: "$1"}
  relabel: [{source_labels: [__name__], regex: shapes_Long, action: drop}]
"#;
    let yaml = format!(
        "timeout: 30s\nsources:\n- name: rmi\n  type: jmx\n  address: 127.0.0.1:{rmi}\n  labels: {{by: rmi}}{rules}\
         - name: jolokia\n  type: jolokia\n  url: http://127.0.0.1:{port}/jolokia/\n  username: me\n  password_file: password\n  interval: 200ms\n  labels: {{by: jolokia}}{rules}\
         - name: wrong\n  type: jolokia\n  url: http://127.0.0.1:{port}/jolokia/\n  username: me\n  password_file: wrong\n",
        rmi = jvm.port
    );
    let adapter = Adapter::start_in(directory, &yaml, &[]);
    for by in ["rmi", "jolokia"] {
        adapter.wait_for(&format!("shapes_Int{{by=\"{by}\",shape=\"plain\"}}"), -7.0);
    }
    let page = adapter.page();
    assert!(!page.contains("shapes_Long") && !page.contains("fixture_"), "{page}");
    adapter.wait_for("metrics_adapter_source_up{source=\"wrong\",type=\"jolokia\"}", 0.0);
    assert!(
        adapter.problem("wrong").contains("the credentials were refused"),
        "{}",
        adapter.problem("wrong")
    );
    assert!(!adapter.get("/status.json", "").contains("s3cret"));
    let output = command(&["run", "explain", adapter.path("adapter.yaml").to_str().unwrap(), "rmi"]);
    assert!(text(&output.stdout).contains("shapes_Int{by=\"rmi\",shape=\"plain\"} -7"), "{output:?}");
    jvm.kill();
    for (name, kind) in [("rmi", "jmx"), ("jolokia", "jolokia")] {
        adapter.wait_for(&format!("metrics_adapter_source_up{{source=\"{name}\",type=\"{kind}\"}}"), 0.0);
    }
    assert!(!adapter.page().contains("\nshapes_Int"), "stale");
}

#[test]
fn what_counts_for_nothing_in_a_jmx_source_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = "hostPort: 127.0.0.1:1\nhttpServer: {metrics: {path: /m}}\nprobeTargets: ['*']\n";
    fs::write(directory.path().join("jmx.yaml"), file).unwrap();
    let adapter = Adapter::start_in(directory, "sources:\n- {name: a, type: jmx, config: jmx.yaml}\n", &[]);
    let log = fs::read_to_string(adapter.path("log")).unwrap();
    for key in ["httpServer", "probeTargets"] {
        let said = log.lines().find(|line| line.contains(&format!("\"key\":\"{key}\"")));
        assert!(said.is_some_and(|line| line.contains("jmx.yaml")), "{key}: {log}");
    }
    let rules =
        "sources:\n- name: a\n  type: jmx\n  address: 127.0.0.1:1\n  rules:\n  - {pattern: a, nmae: b}\n";
    fs::write(adapter.path("other.yaml"), rules).unwrap();
    let output = command(&["run", "--check-config", adapter.path("other.yaml").to_str().unwrap()]);
    let error = text(&output.stderr);
    assert!(!output.status.success(), "{error}");
    assert!(error.contains("other.yaml:") && error.contains("`rules.nmae` is unknown"), "{error}");
}

/// A page with a rule set over a JVM with these beans.
fn with_rules(set: &str, beans: &[&str], series: &[&str]) {
    let jvm = Jvm::named(beans);
    let address = format!("127.0.0.1:{}", jvm.port);
    let adapter = Adapter::start(&format!(
        "sources:\n- {{type: jmx, timeout: 30s, address: '{address}', rule_set: {set}}}\n"
    ));
    let page = adapter.shows(series);
    assert!(page.contains("jvm_threads_current "), "{page}");
}

#[test]
#[ignore = "needs a JDK (java, javac)"]
fn kafka_rules() {
    let beans = [
        "kafka.server:type=BrokerTopicMetrics,name=MessagesInPerSec",
        "Count=7",
        "OneMinuteRate=0.5",
        "kafka.server:type=BrokerTopicMetrics,name=BytesInPerSec,topic=or-ders.x",
        "Count=8",
        "kafka.server:type=ReplicaManager,name=UnderReplicatedPartitions",
        "Value=1",
        "kafka.server:type=KafkaRequestHandlerPool,name=RequestHandlerAvgIdlePercent",
        "Count=3",
        "OneMinuteRate=0.75",
        "kafka.network:type=SocketServer,name=NetworkProcessorAvgIdlePercent",
        "Value=0.5",
        "kafka.network:type=RequestMetrics,name=TotalTimeMs,request=Produce",
        "Count=5",
        "99thPercentile=12.5",
        "999thPercentile=20.0",
        "kafka.network:type=RequestMetrics,name=RequestsPerSec,request=Produce,version=9",
        "Count=11",
        "kafka.log:type=Log,name=Size,topic=orders,partition=3",
        "Value=100",
        "kafka.coordinator.group:type=GroupMetadataManager,name=NumGroups",
        "Value=4",
        "kafka.server:type=FetcherLagMetrics,name=ConsumerLag,clientId=Rep-1,topic=orders,partition=0",
        "Value=9",
        "kafka.server:type=FetcherStats,name=BytesPerSec,clientId=Rep-1,brokerHost=b.example,brokerPort=9092",
        "Count=10",
        "kafka.server:type=Produce,client-id=app",
        "throttle-time=0.25",
        "kafka.controller:type=KafkaController,name=ActiveControllerCount",
        "Value=1",
    ];
    let series = [
        "kafka_server_brokertopicmetrics_messagesin_total",
        "kafka_server_brokertopicmetrics_bytesin_total{topic=\"or-ders.x\"}",
        "kafka_server_replicamanager_underreplicatedpartitions",
        "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
        "kafka_network_socketserver_networkprocessoravgidle_percent",
        "kafka_network_requestmetrics_totaltimems{quantile=\"0.99\",request=\"Produce\"}",
        "kafka_network_requestmetrics_totaltimems{quantile=\"0.999\",request=\"Produce\"}",
        "kafka_network_requestmetrics_totaltimems_count{request=\"Produce\"}",
        "kafka_network_requestmetrics_requests_total{request=\"Produce\",version=\"9\"}",
        "kafka_log_log_size{partition=\"3\",topic=\"orders\"}",
        "kafka_coordinator_group_groupmetadatamanager_numgroups",
        "kafka_server_fetcherlagmetrics_consumerlag{clientId=\"Rep-1\",partition=\"0\",topic=\"orders\"}",
        "kafka_server_fetcherstats_bytes_total{broker=\"b.example:9092\",clientId=\"Rep-1\"}",
        "kafka_server_quota_throttle_time{clientId=\"app\",resource=\"Produce\"}",
        "kafka_controller_kafkacontroller_activecontrollercount",
    ];
    with_rules("kafka", &beans, &series);
}

#[test]
#[ignore = "needs a JDK (java, javac)"]
fn cassandra_rules() {
    let beans = [
        "org.apache.cassandra.metrics:type=Table,keyspace=shop,scope=orders,name=ReadLatency",
        "Count=7",
        "99thPercentile=350.5",
        "org.apache.cassandra.metrics:type=ClientRequest,scope=Read,name=Latency",
        "Count=8",
        "org.apache.cassandra.metrics:type=ThreadPools,path=request,scope=MutationStage,name=PendingTasks",
        "Value=2",
        "org.apache.cassandra.metrics:type=Connection,scope=10.0.0.2,name=GossipMessagePendingTasks",
        "Value=0",
        "org.apache.cassandra.metrics:type=Storage,name=Load",
        "Count=1000",
        "org.apache.cassandra.metrics:type=DroppedMessage,scope=MUTATION,name=Dropped",
        "Count=3",
    ];
    let series = [
        "cassandra_table_readlatency{keyspace=\"shop\",table=\"orders\"}",
        "cassandra_table_readlatency_percentile{keyspace=\"shop\",quantile=\"0.99\",table=\"orders\"}",
        "cassandra_clientrequest_latency{clientrequest=\"Read\"}",
        "cassandra_threadpools_pendingtasks{path=\"request\",threadpools=\"MutationStage\"}",
        "cassandra_connection_gossipmessagependingtasks{address=\"10.0.0.2\"}",
        "cassandra_storage_load",
        "cassandra_droppedmessage_dropped{droppedmessage=\"MUTATION\"}",
    ];
    with_rules("cassandra", &beans, &series);
}

#[test]
#[ignore = "needs a JDK (java, javac)"]
fn spark_rules() {
    let beans = [
        "metrics:name=master.aliveWorkers,type=gauges",
        "Value=2",
        "metrics:name=worker.coresFree",
        "Value=6",
        "metrics:name=app-1-2.driver.DAGScheduler.stage.failedStages,type=gauges",
        "Value=1",
        "metrics:name=app-1-2.driver.DAGScheduler.messageProcessingTime,type=timers",
        "Count=40",
        "metrics:name=app-1-2.driver.com.example.Job.StreamingMetrics.streaming.lastCompletedBatch_totalDelay",
        "Value=12",
        "metrics:name=app-1-2.driver.spark.streaming.query.inputRate-total,type=gauges",
        "Value=3.5",
        "metrics:name=app-1-2.0.executor.threadpool.activeTasks,type=gauges",
        "Value=4",
        "metrics:name=app-1-2.0.executor.filesystem.file.read_bytes,type=gauges",
        "Value=5",
        "metrics:name=app-1-2.0.executor.shuffleRecordsRead,type=counters",
        "Count=6",
        "metrics:name=app-1-2.1.jvm.heap.used,type=gauges",
        "Value=1000",
    ];
    let series = [
        "spark_master_aliveWorkers",
        "spark_worker_coresFree",
        "spark_driver_DAGScheduler_stage_failedStages{app_id=\"app-1-2\"}",
        "spark_driver_DAGScheduler_messageProcessingTime_total{app_id=\"app-1-2\"}",
        "spark_driver_streaming_lastCompletedBatch_totalDelay{app_id=\"app-1-2\",app_name=\"com.example.Job\"}",
        "spark_driver_structured_streaming_inputRate{app_id=\"app-1-2\",query_name=\"query\"}",
        "spark_executor_threadpool_activeTasks{app_id=\"app-1-2\",executor_id=\"0\"}",
        "spark_executor_filesystem_file_read_bytes_total{app_id=\"app-1-2\",executor_id=\"0\"}",
        "spark_executor_shuffleRecordsRead_total{app_id=\"app-1-2\",executor_id=\"0\"}",
        "spark_executor_jvm_heap_used{app_id=\"app-1-2\",executor_id=\"1\"}",
    ];
    with_rules("spark", &beans, &series);
}

fn management(port: u16) -> Vec<String> {
    let properties = [format!("port={port}"), format!("rmi.port={port}")];
    let fixed = ["host=127.0.0.1", "authenticate=false", "ssl=false"].map(str::to_owned);
    let all = properties.into_iter().chain(fixed);
    all.map(|property| format!("-Dcom.sun.management.jmxremote.{property}"))
        .chain(["-Djava.rmi.server.hostname=127.0.0.1".to_owned(), "-Xmx128m".to_owned()])
        .collect()
}

/// A Java server with a management port, and an adapter that reads it by a rule set.
fn java(arguments: &[&str], port: u16, set: &str, directory: &Path) -> (Running, Adapter) {
    let jmx = free_port();
    let options = management(jmx);
    let all: Vec<&str> = options.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
    let server = serve("java", &all, port, directory);
    let adapter = Adapter::start(&format!(
        "sources:\n- {{type: jmx, timeout: 30s, address: '127.0.0.1:{jmx}', rule_set: {set}}}\n"
    ));
    (server, adapter)
}

#[test]
#[ignore = "needs zookeeper"]
fn a_real_zookeeper() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let config = format!(
        "dataDir={}\nclientPortAddress=127.0.0.1\nclientPort={port}\nadmin.enableServer=false\n",
        directory.path().display()
    );
    fs::write(directory.path().join("zoo.cfg"), config).unwrap();
    let main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
    let arguments = ["-cp", "/usr/share/java/zookeeper.jar", main, "zoo.cfg"];
    let (server, adapter) = java(&arguments, port, "zookeeper", directory.path());
    adapter.shows(&[
        "zookeeper_NodeCount",
        "zookeeper_AvgRequestLatency",
        "zookeeper_PacketsReceived",
        "zookeeper_NumAliveConnections",
        "zookeeper_WatchCount",
    ]);
    drop(server);
    adapter.wait_for("metrics_adapter_source_up{source=\"jmx\",type=\"jmx\"}", 0.0);
}

/// The two servlets that every Tomcat has.
const WEB_XML: &str = "<web-app xmlns='https://jakarta.ee/xml/ns/jakartaee' version='6.0'>\
    <servlet><servlet-name>default</servlet-name><servlet-class>org.apache.catalina.servlets.DefaultServlet</servlet-class></servlet>\
    <servlet><servlet-name>jsp</servlet-name><servlet-class>org.apache.jasper.servlet.JspServlet</servlet-class></servlet>\
    <servlet-mapping><servlet-name>default</servlet-name><url-pattern>/</url-pattern></servlet-mapping>\
    <servlet-mapping><servlet-name>jsp</servlet-name><url-pattern>*.jsp</url-pattern></servlet-mapping>\
    <welcome-file-list><welcome-file>index.jsp</welcome-file></welcome-file-list></web-app>";

#[test]
#[ignore = "needs tomcat10"]
fn a_real_tomcat() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let base = directory.path();
    for part in ["conf", "logs", "temp", "webapps/ROOT", "work"] {
        fs::create_dir_all(base.join(part)).unwrap();
    }
    fs::write(base.join("webapps/ROOT/index.jsp"), "hello").unwrap();
    // Debian's own moves about between packages.
    fs::write(base.join("conf/web.xml"), WEB_XML).unwrap();
    let config = format!(
        "<Server port='-1'><Service name='Catalina'><Connector port='{port}' address='127.0.0.1' protocol='HTTP/1.1'/>\
         <Engine name='Catalina' defaultHost='localhost'><Host name='localhost' appBase='webapps'/></Engine></Service></Server>"
    );
    fs::write(base.join("conf/server.xml"), config).unwrap();
    let home = format!("-Dcatalina.base={}", base.display());
    let class_path = "/usr/share/tomcat10/bin/bootstrap.jar:/usr/share/tomcat10/bin/tomcat-juli.jar";
    let main = "org.apache.catalina.startup.Bootstrap";
    let arguments = [&home, "-Dcatalina.home=/usr/share/tomcat10", "-cp", class_path, main, "start"];
    let (_server, adapter) = java(&arguments, port, "tomcat", base);
    crate::harness::get(([127, 0, 0, 1], port).into(), "/", "");
    let connector = format!("{{port=\"{port}\",protocol=\"http-nio\"}}");
    adapter.shows(&[
        &format!("tomcat_requestcount_total{connector}"),
        &format!("tomcat_bytessent_total{connector}"),
        &format!("tomcat_threadpool_currentthreadcount{connector}"),
        "tomcat_session_maxactive{context=\"/\",host=\"localhost\"}",
        "tomcat_session_activesessions{context=\"/\",host=\"localhost\"}",
        "tomcat_servlet_requestcount_total{module=\"localhost/\",servlet=\"jsp\"}",
    ]);
}

#[test]
#[ignore = "needs activemq"]
fn a_real_activemq() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let config = format!(
        "<beans xmlns='http://www.springframework.org/schema/beans' xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' \
         xsi:schemaLocation='http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans.xsd \
         http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd'>\
         <broker xmlns='http://activemq.apache.org/schema/core' brokerName='fixture' persistent='false' useJmx='true' dataDirectory='{0}'>\
         <managementContext><managementContext createConnector='false'/></managementContext>\
         <destinations><queue physicalName='orders'/><topic physicalName='news'/></destinations>\
         <transportConnectors><transportConnector name='openwire' uri='tcp://127.0.0.1:{port}'/></transportConnectors>\
         </broker></beans>",
        directory.path().display()
    );
    fs::write(directory.path().join("activemq.xml"), config).unwrap();
    let home = ["-Dactivemq.home=/usr/share/activemq", "-Dactivemq.base=/usr/share/activemq"];
    let jars = "/usr/share/activemq/bin/activemq.jar";
    let arguments = [home[0], home[1], "-jar", jars, "start", "xbean:file:activemq.xml"];
    let (_server, adapter) = java(&arguments, port, "activemq", directory.path());
    adapter.shows(&[
        "activemq_queue_queue_size{destination=\"orders\"}",
        "activemq_queue_enqueue_count{destination=\"orders\"}",
        "activemq_topic_consumer_count{destination=\"news\"}",
        "activemq_connections",
        "activemq_connections_opened_total",
        "activemq_message_total",
        "activemq_memory_usage_ratio",
    ]);
}
