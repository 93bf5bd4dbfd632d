//! Kubernetes manifests: what people apply renders, is valid in the newest five minor versions, passes the
//! Restricted Pod Security Standard, and says to our binaries only what they understand.

mod container;
mod pages;
mod runs;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use e2e::parts::{kustomize, python};
use e2e::process::run;
use e2e::repository;
use serde_json::Value;
use tempfile::TempDir;

const COMPONENTS: [&str; 4] = ["gitsync", "redis-ambassador", "metrics-adapter", "metrics-adapter-jmx"];
const KINDS: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

fn judge() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/manifests/judge.py")
}

/// A folder inside the repository, since kustomizations name components by relative paths.
fn scratch() -> Result<TempDir> {
    let target = repository().join("target");
    std::fs::create_dir_all(&target)?;
    Ok(tempfile::tempdir_in(target)?)
}

/// Everything that is wrong with rendered manifests; empty when they are fine.
fn problems(manifests: &str) -> Result<String> {
    let directory = scratch()?;
    let file = directory.path().join("manifests.yaml");
    std::fs::write(&file, manifests)?;
    let output = Command::new(python()?).arg(judge()).arg("check").arg(&file).output()?;
    match output.status.code() {
        Some(0 | 1) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        _ => bail!("the judge failed: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

pub(crate) fn objects(manifests: &str) -> Result<Vec<Value>> {
    let directory = scratch()?;
    let file = directory.path().join("manifests.yaml");
    std::fs::write(&file, manifests)?;
    let json = run(python()?, [judge().as_os_str(), "json".as_ref(), file.as_os_str()])?;
    Ok(serde_json::from_str(&json)?)
}

pub(crate) fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    let wanted = |object: &&Value| {
        object.pointer("/kind").is_some_and(|found| found == kind)
            && object.pointer("/metadata/name").and_then(Value::as_str).is_some_and(|n| n.starts_with(name))
    };
    objects.iter().find(wanted).with_context(|| format!("no {kind} {name}"))
}

/// Names and texts of a ConfigMap or Secret, as a Pod sees them.
pub(crate) fn content(thing: &Value) -> Vec<(String, String)> {
    let texts = |field: &str| {
        let map = thing[field].as_object().into_iter().flatten();
        map.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
    };
    let decoded = |(name, text): (String, String)| {
        let bytes = BASE64_STANDARD.decode(&text).unwrap_or_default();
        (name, String::from_utf8_lossy(&bytes).into_owned())
    };
    match thing["kind"] == "Secret" {
        true => texts("data").map(decoded).chain(texts("stringData")).collect(),
        false => texts("data").collect(),
    }
}

fn examples() -> Result<Vec<PathBuf>> {
    let folder = repository().join("images/kustomize/examples");
    let entries = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> = entries.filter(|path| path.join("kustomization.yaml").is_file()).collect();
    found.sort();
    ensure!(found.len() >= 7, "only {} examples", found.len());
    Ok(found)
}

/// Renders workloads of somebody else with components added in one line.
fn with_components(workloads: &str, components_used: &[&str]) -> Result<String> {
    let directory = scratch()?;
    let lines: String = components_used
        .iter()
        .map(|name| format!("  - ../../images/kustomize/components/{name}\n"))
        .collect();
    std::fs::write(directory.path().join("workloads.yaml"), workloads)?;
    std::fs::write(directory.path().join("jmx.yaml"), "hostPort: 127.0.0.1:9010\n")?;
    let kustomization = format!(
        "resources: [workloads.yaml]\ncomponents:\n{lines}configMapGenerator:\n\
         - {{name: gitsync, literals: [GITSYNC_REPO=https://example.com/x.git]}}\n\
         - {{name: redis-ambassador, literals: ['REDIS_AMBASSADOR_PRIMARY=redis:6379']}}\n\
         - {{name: metrics-adapter-jmx, files: [jmx.yaml]}}\n"
    );
    std::fs::write(directory.path().join("kustomization.yaml"), kustomization)?;
    kustomize(directory.path())
}

/// A workload as people have them: its own init container, two containers, one with a mount.
fn workload(kind: &str, name: &str) -> String {
    let security = "{allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}";
    let service = if kind == "StatefulSet" { "serviceName: none" } else { "minReadySeconds: 1" };
    format!(
        r#"---
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
  {service}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      securityContext: {{runAsNonRoot: true, runAsUser: 7, seccompProfile: {{type: RuntimeDefault}}}}
      initContainers:
      - {{name: migrate, image: migrate, securityContext: {security}}}
      containers:
      - {{name: app, image: app, securityContext: {security}}}
      - {{name: log, image: log, securityContext: {security}, volumeMounts: [{{name: tmp, mountPath: /tmp}}]}}
      volumes: [{{name: tmp, emptyDir: {{}}}}]
"#
    )
}

fn names(workload: &Value, list: &str) -> Vec<String> {
    let path = format!("/spec/template/spec/{list}");
    let containers = workload.pointer(&path).and_then(Value::as_array);
    let name = |container: &Value| container["name"].as_str().unwrap_or_default().to_owned();
    containers.map(|containers| containers.iter().map(name).collect()).unwrap_or_default()
}

#[test]
#[ignore = "needs kubectl and python3"]
fn every_example_is_valid_and_restricted() -> Result<()> {
    for example in examples()? {
        let manifests = kustomize(&example)?;
        let found = problems(&manifests)?;
        ensure!(found.is_empty(), "{}:\n{found}", example.display());
        ensure!(
            manifests.contains("/pattern-containers/"),
            "{} has none of our containers",
            example.display()
        );
    }
    let versions = run(python()?, [judge().as_os_str(), "versions".as_ref()])?;
    ensure!(versions.split_whitespace().count() == 5, "{versions}");
    Ok(())
}

#[test]
#[ignore = "needs kubectl and python3"]
fn one_line_adds_a_sidecar_to_any_workload() -> Result<()> {
    let workloads: String = KINDS.iter().map(|kind| workload(kind, &kind.to_lowercase())).collect();
    for component in COMPONENTS {
        let manifests = with_components(&workloads, &[component])?;
        let found = problems(&manifests)?;
        ensure!(found.is_empty(), "{component}:\n{found}");
        let objects = objects(&manifests)?;
        for kind in KINDS {
            let workload = object(&objects, kind, &kind.to_lowercase())?;
            // First, so that the application's own init containers can use it; and last to end.
            ensure!(names(workload, "initContainers") == [component, "migrate"], "{workload}");
            ensure!(names(workload, "containers") == ["app", "log"], "{workload}");
            let sidecar = &workload["spec"]["template"]["spec"]["initContainers"][0];
            ensure!(sidecar["restartPolicy"] == "Always" && sidecar["startupProbe"].is_object(), "{sidecar}");
            let port = sidecar["ports"][0]["containerPort"].to_string();
            let annotations = &workload["spec"]["template"]["metadata"]["annotations"];
            ensure!(annotations["prometheus.io/port"] == port.as_str(), "{annotations}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs kubectl and python3"]
fn plain_sidecars_serve_older_clusters() -> Result<()> {
    let workloads: String = KINDS.iter().map(|kind| workload(kind, &kind.to_lowercase())).collect();
    for component in COMPONENTS {
        let manifests = with_components(&workloads, &[&format!("{component}-plain")])?;
        let found = problems(&manifests)?;
        ensure!(found.is_empty() && !manifests.contains("restartPolicy"), "{component}-plain:\n{found}");
        for kind in KINDS {
            let objects = objects(&manifests)?;
            let workload = object(&objects, kind, &kind.to_lowercase())?;
            // Last, so that `kubectl logs` and `exec` still choose the application by default.
            ensure!(names(workload, "containers") == ["app", "log", component], "{workload}");
            let before: &[&str] =
                if component == "gitsync" { &["gitsync-first", "migrate"] } else { &["migrate"] };
            ensure!(names(workload, "initContainers") == before, "{workload}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs kubectl and python3"]
fn components_go_together_and_can_be_declined() -> Result<()> {
    let annotated = |name: &str, annotation: &str| {
        workload("Deployment", name)
            .replace("metadata: {name:", &format!("metadata: {{annotations: {{{annotation}}}, name:"))
    };
    let workloads = [
        workload("Deployment", "all"),
        annotated("none", "pattern-containers/gitsync: \"off\""),
        annotated("bare", "pattern-containers/gitsync: no-mount"),
    ]
    .concat();
    let mixed =
        ["gitsync", "redis-ambassador-plain", "metrics-adapter", "metrics-adapter-jmx", "pod-monitor"];
    let manifests = with_components(&workloads, &mixed)?;
    let found = problems(&manifests)?;
    ensure!(found.is_empty(), "{found}");
    let objects = objects(&manifests)?;
    let all = object(&objects, "Deployment", "all")?;
    ensure!(
        names(all, "initContainers") == ["metrics-adapter-jmx", "metrics-adapter", "gitsync", "migrate"],
        "{all}"
    );
    ensure!(names(all, "containers") == ["app", "log", "redis-ambassador"], "{all}");
    for container in [0, 1] {
        let mounts = all["spec"]["template"]["spec"]["containers"][container]["volumeMounts"].to_string();
        ensure!(
            mounts.contains(r#"{"mountPath":"/git","name":"gitsync","readOnly":true}"#),
            "container {container}: {mounts}"
        );
    }
    let none = object(&objects, "Deployment", "none")?;
    ensure!(!none.to_string().contains("\"gitsync"), "{none}");
    let bare = object(&objects, "Deployment", "bare")?;
    ensure!(names(bare, "initContainers").contains(&"gitsync".to_owned()), "{bare}");
    ensure!(
        !bare["spec"]["template"]["spec"]["containers"].to_string().contains("/git\""),
        "mounts were declined: {bare}"
    );
    Ok(())
}

/// What somebody may get wrong, and a word of what must be said about it.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("containerPort: 2020", "containerPrt: 2020", "containerPrt"),
    ("containerPort: 2020", "containerPort: \"2020\"", "2020"),
    ("restartPolicy: Always", "restartpolicy: Always", "restartpolicy"),
    ("path: /readyz", "pth: /readyz", "pth"),
    ("kind: Deployment", "kind: Deploymnt", "Deploymnt"),
    ("apiVersion: apps/v1", "apiVersion: apps/v1beta1", "v1beta1"),
    (
        "name: gitsync-secret\n        secret",
        "name: gitsync-secrt\n        secret",
        "no volume gitsync-secret",
    ),
    ("port: gitsync", "port: gitsink", "no port gitsink"),
    ("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "allowPrivilegeEscalation"),
    ("readOnlyRootFilesystem: true\n          runAsGroup: 65533", "runAsGroup: 65533", "root file system"),
    ("runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"),
    ("runAsUser: 65533", "runAsUser: 0", "user 0"),
    ("- ALL", "- NET_RAW", "ALL"),
    ("type: RuntimeDefault", "type: Unconfined", "Unconfined"),
    ("emptyDir: {}", "hostPath: {path: /}", "hostPath"),
    ("app.kubernetes.io/name: site", "app.kubernetes.io/name: sight", "selector"),
    ("targetPort: http", "targetPort: htp", "htp"),
    ("      automountServiceAccountToken: false", "      hostNetwork: true", "hostNetwork"),
];

#[test]
#[ignore = "needs kubectl and python3"]
fn a_mistake_in_a_manifest_is_found() -> Result<()> {
    let manifests = kustomize(&repository().join("images/kustomize/examples/push-to-deploy"))?;
    for (right, wrong, word) in MISTAKES {
        ensure!(manifests.contains(right), "`{right}` is not in the example any more");
        let found = problems(&manifests.replacen(right, wrong, 1))?;
        ensure!(found.contains(word), "`{wrong}` was not named: {found:?}");
    }
    Ok(())
}
