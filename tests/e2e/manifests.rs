//! Kubernetes manifests: what people apply renders, is valid in the newest five minor versions, passes the
//! Restricted Pod Security Standard, and says to our binaries only what they understand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use e2e::parts::{kustomize, python};
use e2e::process::run;
use e2e::{binary, repository};
use serde_json::Value;
use tempfile::TempDir;

const COMPONENTS: [&str; 4] = ["gitsync", "redis-ambassador", "metrics-adapter", "metrics-adapter-jmx"];
const KINDS: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

fn judge() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/manifests.py")
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

fn objects(manifests: &str) -> Result<Vec<Value>> {
    let directory = scratch()?;
    let file = directory.path().join("manifests.yaml");
    std::fs::write(&file, manifests)?;
    let json = run(python()?, [judge().as_os_str(), "json".as_ref(), file.as_os_str()])?;
    Ok(serde_json::from_str(&json)?)
}

fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    let wanted = |object: &&Value| {
        object.pointer("/kind").is_some_and(|found| found == kind)
            && object.pointer("/metadata/name").and_then(Value::as_str).is_some_and(|n| n.starts_with(name))
    };
    objects.iter().find(wanted).with_context(|| format!("no {kind} {name}"))
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

/// A container of ours in a rendered manifest, as a command with `--check-config`.
struct Checked {
    program: String,
    arguments: Vec<String>,
    variables: BTreeMap<String, String>,
    _files: TempDir,
}

/// Prepares what the kubelet would: variables of ConfigMaps, and their files, in a folder of our own.
fn checked(container: &Value, pod: &Value, objects: &[Value]) -> Result<Option<Checked>> {
    let image = container["image"].as_str().unwrap_or_default();
    let Some((_, image)) = image.split_once("pattern-containers/") else { return Ok(None) };
    let program = image.split(':').next().unwrap_or_default().to_owned();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = |map: &Value| -> Vec<(String, String)> {
        map.as_object().map(|map| map.iter().map(|(k, v)| (k.clone(), text(v))).collect()).unwrap_or_default()
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let config_map = |name: &Value| object(objects, "ConfigMap", name.as_str().unwrap_or("-"));
    let mut variables = BTreeMap::new();
    for source in list(&container["envFrom"]) {
        if let Ok(map) = config_map(&source["configMapRef"]["name"]) {
            variables.extend(entries(&map["data"]));
        }
    }
    for variable in list(&container["env"]) {
        variables.insert(text(&variable["name"]), text(&variable["value"]));
    }
    let files = scratch()?;
    let mut places = Vec::new();
    for mount in list(&container["volumeMounts"]) {
        let place = files.path().join(text(&mount["name"]));
        std::fs::create_dir_all(&place)?;
        places.push((text(&mount["mountPath"]), place.display().to_string()));
        let volume = list(&pod["volumes"]).into_iter().find(|volume| volume["name"] == mount["name"]);
        let volume = volume.with_context(|| format!("no volume for {mount}"))?;
        let source = match (config_map(&volume["configMap"]["name"]), volume["secret"]["secretName"].as_str())
        {
            (Ok(map), _) => entries(&map["data"]),
            (_, Some(secret)) => {
                object(objects, "Secret", secret).map(|secret| entries(&secret["data"])).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        for (name, content) in source {
            std::fs::write(place.join(name), content)?;
        }
    }
    let moved = |text: String| {
        places.iter().fold(text, |text, (from, to)| match text.contains(to.as_str()) {
            true => text,
            false => text
                .replace(&format!("{from}/"), &format!("{to}/"))
                .replace(&format!("={from}"), &format!("={to}")),
        })
    };
    let mut arguments: Vec<String> =
        list(&container["args"]).iter().map(|value| moved(text(value))).collect();
    arguments.push("--check-config".to_owned());
    let variables = variables.into_iter().map(|(name, value)| (name, moved(value))).collect();
    Ok(Some(Checked { program, arguments, variables, _files: files }))
}

fn check_with_binaries(manifests: &str) -> Result<usize> {
    let objects = objects(manifests)?;
    let mut count = 0;
    for workload in &objects {
        let Some(pod) = workload.pointer("/spec/template/spec").or(workload.pointer("/spec")) else {
            continue;
        };
        for list in ["initContainers", "containers"] {
            for container in pod[list].as_array().into_iter().flatten() {
                let Some(check) = checked(container, pod, &objects)? else { continue };
                let mut command = Command::new(binary(&check.program)?);
                let output = command.args(&check.arguments).env_clear().envs(&check.variables).output()?;
                let said = [output.stdout, output.stderr].concat();
                ensure!(
                    output.status.success(),
                    "{} {:?} {:?}: {}",
                    check.program,
                    check.arguments,
                    check.variables,
                    String::from_utf8_lossy(&said)
                );
                count += 1;
            }
        }
    }
    Ok(count)
}

#[test]
#[ignore = "needs kubectl and python3"]
fn the_binaries_understand_every_manifest() -> Result<()> {
    for example in examples()? {
        let checked = check_with_binaries(&kustomize(&example)?)?;
        ensure!(checked > 0, "{} has none of our containers", example.display());
    }
    Ok(())
}

/// The pages for people who come from a peer: crate, page, and what else than the image changes.
const PAGES: [(&str, &str, Change); 5] = [
    ("gitsync", "migrating-from-git-sync.md", Change::ImageOnly),
    ("metrics-adapter", "migrating-from-statsd-exporter.md", Change::Mode("            - statsd\n", "")),
    ("metrics-adapter", "migrating-from-jmx-exporter.md", Change::Mode("[jmx, ", "[")),
    ("redis-ambassador", "migrating-from-predixy.md", Change::Container),
    ("redis-ambassador", "migrating-from-envoy.md", Change::Container),
];

enum Change {
    ImageOnly,
    /// This text is replaced by that one to go back.
    Mode(&'static str, &'static str),
    Container,
}

/// The fenced block of a page whose info string is `yaml KIND`.
fn block<'a>(page: &'a str, kind: &str) -> Result<&'a str> {
    let (_, rest) =
        page.split_once(&format!("```yaml {kind}\n")).with_context(|| format!("no {kind} manifest"))?;
    Ok(rest.split_once("```").with_context(|| format!("the {kind} manifest does not end"))?.0)
}

/// The text without its fenced blocks.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// What a binary says about its flags, in all its modes.
fn help(name: &str) -> Result<String> {
    let modes: &[&[&str]] = match name {
        "metrics-adapter" => &[&["statsd", "--help"], &["jmx", "--help"], &["--help"]],
        _ => &[&["--help"]],
    };
    modes.iter().map(|mode| run(binary(name)?, mode.iter())).collect()
}

#[test]
#[ignore = "needs kubectl and python3"]
fn migrating_pages_keep_what_they_promise() -> Result<()> {
    for (name, page, change) in PAGES {
        let text = std::fs::read_to_string(repository().join(name).join("docs").join(page))?;
        for heading in ["## What to change", "## Better at once", "## Different on purpose", "## Going back"]
        {
            ensure!(text.contains(heading), "{page}: no `{heading}`");
        }
        let (before, after) = (block(&text, "before")?, block(&text, "after")?);
        for manifests in [before, after] {
            let found = problems(manifests)?;
            ensure!(found.is_empty(), "{page}:\n{found}");
        }
        let image = |manifests: &str| -> Vec<String> {
            let lines = manifests.lines().filter(|line| !line.contains(" image:"));
            lines.map(str::to_owned).collect()
        };
        match change {
            Change::ImageOnly => {
                ensure!(image(before) == image(after), "{page}: more than the image changes");
            }
            Change::Mode(with, without) => ensure!(
                image(before) == image(&after.replacen(with, without, 1)),
                "{page}: more than the image and the mode change"
            ),
            Change::Container => {}
        }
        ensure!(check_with_binaries(before)? == 0 && check_with_binaries(after)? == 1, "{page}");
        let help = help(name)?;
        let flags = prose(&text);
        let is_flag =
            |word: &&str| word.strip_prefix("--").is_some_and(|name| name.starts_with(char::is_alphabetic));
        for flag in flags.split(['`', ' ', '=']).filter(is_flag) {
            ensure!(help.contains(flag), "{page}: {name} has no {flag}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs kubectl and python3"]
fn variables_in_config_maps_exist() -> Result<()> {
    let prefixes = [
        ("GITSYNC_", "gitsync"),
        ("REDIS_AMBASSADOR_", "redis-ambassador"),
        ("METRICS_ADAPTER_", "metrics-adapter"),
    ];
    let mut known = 0;
    for example in examples()? {
        for thing in objects(&kustomize(&example)?)? {
            let data = thing["data"].as_object().filter(|_| thing["kind"] == "ConfigMap");
            for variable in data.into_iter().flat_map(|data| data.keys()) {
                let Some((_, name)) = prefixes.iter().find(|(prefix, _)| variable.starts_with(prefix)) else {
                    continue;
                };
                let exists = help(name)?.split(['[', ']', ' ', '\n']).any(|word| word == variable);
                ensure!(exists, "{}: {name} has no variable {variable}", example.display());
                known += 1;
            }
        }
    }
    ensure!(known > 10, "only {known} variables were found");
    Ok(())
}
