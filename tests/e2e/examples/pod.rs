//! A workload's Pod, run by podman: what the kubelet would make of its template.
//!
//! podman 4 knows no native sidecars, asks `curl` inside a container for HTTP probes, and never writes to a
//! volume again. So native sidecars become ordinary containers, probes are left to the stories, and every
//! volume is a folder of this machine that looks as the kubelet makes it. Commands, arguments, variables,
//! mounts, users and restrictions stay what the manifest says.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use e2e::free_port;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::manifests::{content, object};
use crate::podman::Podman;

/// Where the images are; `images/lib.sh` reads the same variable.
fn prefix() -> String {
    std::env::var("PATTERN_IMAGE_PREFIX").unwrap_or_else(|_| "localhost/pattern-containers".to_owned())
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A name of a Pod or network that nobody else has.
fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("e2e-{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A network whose Pods find each other by name; removed when dropped.
pub(super) struct Network {
    pub(super) podman: Podman,
    name: String,
}

impl Network {
    pub(super) fn new() -> Result<Self> {
        let network = Self { podman: Podman::new()?, name: unique("net") };
        network.podman.run(&["network", "create", &network.name])?;
        Ok(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.podman.run(&["network", "rm", "--force", &self.name]);
    }
}

/// A Pod; removed when dropped.
pub(super) struct Pod<'a> {
    network: &'a Network,
    /// Its name, by which other Pods find it.
    pub(super) name: String,
    spec: Value,
    folder: TempDir,
    ports: BTreeMap<String, u16>,
}

impl<'a> Pod<'a> {
    /// The Pod of a workload among rendered objects; not started yet.
    pub(super) fn of(network: &'a Network, objects: &[Value], kind: &str, name: &str) -> Result<Self> {
        let workload = object(objects, kind, name)?;
        let spec = workload.pointer("/spec/template/spec").or(workload.pointer("/spec")).context("no Pod")?;
        let mut pod = Self {
            network,
            name: unique(name),
            spec: spec.clone(),
            folder: tempfile::tempdir()?,
            ports: BTreeMap::new(),
        };
        // Other users than ours look into the volumes.
        std::fs::set_permissions(pod.folder.path(), PermissionsExt::from_mode(0o755))?;
        for claim in list(&workload["spec"]["volumeClaimTemplates"]) {
            let claimed = json!({"name": claim["metadata"]["name"], "emptyDir": {}});
            pod.spec["volumes"].as_array_mut().context("no volumes")?.push(claimed);
        }
        pod.join_containers()?;
        pod.fill_volumes(objects)?;
        pod.gather_variables(objects)?;
        pod.publish_ports()?;
        Ok(pod)
    }

    /// Native sidecars go first among the ordinary containers; probes go.
    fn join_containers(&mut self) -> Result<()> {
        let (sidecars, first): (Vec<Value>, Vec<Value>) =
            list(&self.spec["initContainers"]).into_iter().partition(|one| one["restartPolicy"] == "Always");
        ensure!(first.is_empty(), "init containers are not run here");
        let mut all = [sidecars, list(&self.spec["containers"])].concat();
        for container in &mut all {
            let fields = container.as_object_mut().context("a container is no map")?;
            for field in ["restartPolicy", "startupProbe", "readinessProbe", "livenessProbe"] {
                fields.remove(field);
            }
            if let Some((_, image)) = text(&fields["image"]).split_once("pattern-containers/") {
                let name = image.split(':').next().unwrap_or_default();
                fields.insert("image".to_owned(), format!("{}/{name}:latest", prefix()).into());
            }
            fields.insert("imagePullPolicy".to_owned(), "Never".into());
        }
        self.spec["containers"] = all.into();
        self.spec.as_object_mut().context("no spec")?.remove("initContainers");
        Ok(())
    }

    /// Makes each volume a folder with the files that its ConfigMap or Secret has.
    fn fill_volumes(&mut self, objects: &[Value]) -> Result<()> {
        let mut volumes = BTreeMap::new();
        for volume in list(&self.spec["volumes"]) {
            let name = text(&volume["name"]);
            let source = |kind, field: &str, key: &str| {
                let named = volume[field][key].as_str()?;
                object(objects, kind, named).ok()
            };
            let folder = self.volume(&name);
            std::fs::create_dir_all(&folder)?;
            if let Some(found) =
                source("ConfigMap", "configMap", "name").or(source("Secret", "secret", "secretName"))
            {
                project(&folder, &content(found))?;
            }
            std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777))?;
            volumes.insert(name, folder);
        }
        // A mount of a part of a volume is one of a folder in it.
        let mut paths = BTreeMap::new();
        for container in self.containers_mut()? {
            for mount in container["volumeMounts"].as_array_mut().into_iter().flatten() {
                let name = text(&mount["name"]);
                let mut path = volumes.get(&name).with_context(|| format!("no volume {name}"))?.clone();
                if let Some(part) = mount.as_object_mut().and_then(|mount| mount.remove("subPath")) {
                    path.push(text(&part));
                    std::fs::create_dir_all(&path)?;
                    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777))?;
                }
                let next = format!("v{}", paths.len());
                mount["name"] = paths.entry(path).or_insert(next).clone().into();
            }
        }
        let volume = |(path, name): (PathBuf, String)| json!({"name": name, "hostPath": {"path": path, "type": "Directory"}});
        self.spec["volumes"] = paths.into_iter().map(volume).collect();
        Ok(())
    }

    /// Variables of ConfigMaps and Secrets become plain ones.
    fn gather_variables(&mut self, objects: &[Value]) -> Result<()> {
        let name = self.name.clone();
        for container in self.containers_mut()? {
            let mut variables = BTreeMap::new();
            for source in list(&container["envFrom"]) {
                for (kind, reference) in [("ConfigMap", "configMapRef"), ("Secret", "secretRef")] {
                    let Some(named) = source[reference]["name"].as_str() else { continue };
                    if let Ok(found) = object(objects, kind, named) {
                        variables.extend(content(found));
                    }
                }
            }
            for variable in list(&container["env"]) {
                let value =
                    if variable["valueFrom"].is_null() { text(&variable["value"]) } else { name.clone() };
                variables.insert(text(&variable["name"]), value);
            }
            container["env"] =
                variables.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            container.as_object_mut().context("a container is no map")?.remove("envFrom");
        }
        Ok(())
    }

    fn publish_ports(&mut self) -> Result<()> {
        let mut published = BTreeMap::new();
        for container in self.containers_mut()? {
            for port in container["ports"].as_array_mut().into_iter().flatten() {
                let host = free_port()?;
                published.insert(text(&port["name"]), host);
                port["hostIP"] = "127.0.0.1".into();
                port["hostPort"] = host.into();
            }
        }
        self.ports = published;
        Ok(())
    }

    fn containers_mut(&mut self) -> Result<&mut Vec<Value>> {
        self.spec["containers"].as_array_mut().context("no containers")
    }

    fn container_mut(&mut self, name: &str) -> Result<&mut Value> {
        let containers = self.containers_mut()?;
        containers.iter_mut().find(|one| one["name"] == name).with_context(|| format!("no container {name}"))
    }

    /// Runs another image and command in a container: the application's, which cannot be pulled here.
    pub(super) fn stand_in(&mut self, container: &str, image: &str, command: &[&str]) -> Result<()> {
        let container = self.container_mut(container)?;
        container["image"] = format!("{}/{image}:latest", prefix()).into();
        let fields = container.as_object_mut().context("a container is no map")?;
        fields.remove("args");
        fields.remove("command");
        if !command.is_empty() {
            fields.insert("args".to_owned(), command.into());
        }
        Ok(())
    }

    /// Runs another program of the image that stands in.
    pub(super) fn command(&mut self, container: &str, words: &[&str]) -> Result<()> {
        self.container_mut(container)?["command"] = words.into();
        Ok(())
    }

    /// Replaces a text in the variables of all containers: an address, a period.
    pub(super) fn say(&mut self, from: &str, to: &str) -> Result<()> {
        let mut found = false;
        for container in self.containers_mut()? {
            for variable in container["env"].as_array_mut().into_iter().flatten() {
                let value = text(&variable["value"]);
                found |= value.contains(from);
                variable["value"] = value.replace(from, to).into();
            }
        }
        ensure!(found, "no variable says {from}");
        Ok(())
    }

    /// Sets a variable of a container.
    pub(super) fn variable(&mut self, container: &str, name: &str, value: &str) -> Result<()> {
        let env = self.container_mut(container)?["env"].as_array_mut().context("no variables")?;
        env.push(json!({"name": name, "value": value}));
        Ok(())
    }

    /// The value of a variable of a container.
    pub(super) fn value(&mut self, container: &str, name: &str) -> Result<String> {
        let variables = list(&self.container_mut(container)?["env"]);
        let found = variables.iter().find(|variable| variable["name"] == name);
        Ok(text(&found.with_context(|| format!("no variable {name}"))?["value"]))
    }

    /// Adds a volume with files to a container.
    pub(super) fn mount(
        &mut self,
        container: &str,
        volume: &str,
        path: &str,
        files: &[(&str, &str)],
    ) -> Result<()> {
        let folder = self.volume(volume);
        std::fs::create_dir_all(&folder)?;
        self.rotate(volume, files)?;
        let mounts = &mut self.container_mut(container)?["volumeMounts"];
        let mut all = list(mounts);
        all.push(json!({"name": volume, "mountPath": path, "readOnly": true}));
        *mounts = all.into();
        let mut volumes = list(&self.spec["volumes"]);
        volumes.push(json!({"name": volume, "hostPath": {"path": folder, "type": "Directory"}}));
        self.spec["volumes"] = volumes.into();
        Ok(())
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes the files of a ConfigMap or Secret under the running Pod, the way the kubelet does.
    pub(super) fn rotate(&self, volume: &str, files: &[(&str, &str)]) -> Result<()> {
        let files: Vec<_> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        project(&self.volume(volume), &files)
    }

    /// A file of a volume as it is now.
    pub(super) fn file(&self, volume: &str, name: &str) -> Result<String> {
        Ok(std::fs::read_to_string(self.volume(volume).join(name))?)
    }

    pub(super) fn start(&self) -> Result<()> {
        let manifest = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": self.spec,
            "metadata": {"name": self.name, "labels": {"app.kubernetes.io/part-of": "pattern-containers"}},
        });
        let file = self.folder.path().join("pod.yaml");
        std::fs::write(&file, manifest.to_string())?;
        let said =
            self.podman().run(&["play", "kube", "--network", &self.network.name, &file.to_string_lossy()])?;
        ensure!(!said.contains("Error"), "{said}");
        Ok(())
    }

    fn podman(&self) -> &Podman {
        &self.network.podman
    }

    /// What podman calls a container.
    pub(super) fn container(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Where this machine reaches a port.
    pub(super) fn port(&self, name: &str) -> Result<u16> {
        self.ports.get(name).copied().with_context(|| format!("no port {name} in {:?}", self.ports))
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- {}: {}",
                self.name,
                self.podman().run(&["pod", "logs", &self.name]).unwrap_or_default()
            );
        }
        let _ = self.podman().run(&["pod", "rm", "--force", "--time", "0", &self.name]);
    }
}

/// Puts files into a volume as the kubelet does: a new folder beside the old, and one rename of the link
/// `..data`, through which every file is read.
fn project(volume: &Path, files: &[(String, String)]) -> Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let fresh = format!("..2026_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let old = std::fs::read_link(volume.join("..data")).ok();
    std::fs::create_dir(volume.join(&fresh))?;
    for (name, text) in files {
        std::fs::write(volume.join(&fresh).join(name), text)?;
    }
    symlink(&fresh, volume.join("..data_tmp"))?;
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data"))?;
    for (name, _) in files {
        if !volume.join(name).is_symlink() {
            symlink(Path::new("..data").join(name), volume.join(name))?;
        }
    }
    if let Some(old) = old {
        std::fs::remove_dir_all(volume.join(old))?;
    }
    Ok(())
}
