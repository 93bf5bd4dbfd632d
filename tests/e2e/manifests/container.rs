//! A container of ours in a manifest as a process: what the kubelet and the runtime would make of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::binary;
use e2e::process::Daemon;
use serde_json::Value;
use tempfile::TempDir;

use super::{content, object, scratch};

/// Program, arguments, variables and mounted files.
pub(super) struct Container {
    program: String,
    arguments: Vec<String>,
    variables: BTreeMap<String, String>,
    files: TempDir,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// All containers whose image is one of ours.
pub(super) fn ours(objects: &[Value]) -> Result<Vec<Container>> {
    let mut found = Vec::new();
    for workload in objects {
        let pod = workload.pointer("/spec/template/spec").or(workload.pointer("/spec"));
        for container in pod
            .into_iter()
            .flat_map(|pod| list(&pod["initContainers"]).iter().chain(list(&pod["containers"])))
        {
            found.extend(Container::of(container, pod.unwrap_or(&Value::Null), objects)?);
        }
    }
    Ok(found)
}

impl Container {
    fn of(container: &Value, pod: &Value, objects: &[Value]) -> Result<Option<Self>> {
        let image = text(&container["image"]);
        let Some((_, image)) = image.split_once("pattern-containers/") else { return Ok(None) };
        let config_map = |name: &Value| object(objects, "ConfigMap", name.as_str().unwrap_or("-"));
        let mut variables = BTreeMap::new();
        for source in list(&container["envFrom"]) {
            if let Ok(map) = config_map(&source["configMapRef"]["name"]) {
                variables.extend(content(map));
            }
        }
        for variable in list(&container["env"]) {
            variables.insert(text(&variable["name"]), text(&variable["value"]));
        }
        let mut made = Self {
            program: image.split(':').next().unwrap_or_default().to_owned(),
            arguments: list(&container["args"]).iter().map(text).collect(),
            variables,
            files: scratch()?,
        };
        for mount in list(&container["volumeMounts"]) {
            let volume = list(&pod["volumes"]).iter().find(|volume| volume["name"] == mount["name"]);
            made.mount(mount, volume.with_context(|| format!("no volume for {mount}"))?, objects)?;
        }
        made.speak_of_folders(list(&container["volumeMounts"]));
        Ok(Some(made))
    }

    /// Makes a folder of a volume.
    fn mount(&mut self, mount: &Value, volume: &Value, objects: &[Value]) -> Result<()> {
        let place = self.folder(&text(&mount["name"]));
        std::fs::create_dir_all(&place)?;
        let of = |kind, name: &Value| object(objects, kind, name.as_str().unwrap_or("-"));
        let map = of("ConfigMap", &volume["configMap"]["name"]);
        let found = map.or_else(|_| of("Secret", &volume["secret"]["secretName"]));
        for (name, text) in found.map(content).unwrap_or_default() {
            std::fs::write(place.join(name), text)?;
        }
        Ok(())
    }

    /// Lets arguments and variables speak of the folders instead of the mount paths.
    fn speak_of_folders(&mut self, mounts: &[Value]) {
        let patterns: Vec<(String, String)> = mounts
            .iter()
            .flat_map(|mount| {
                let (from, to) = (text(&mount["mountPath"]), self.folder(&text(&mount["name"])));
                let to = to.display();
                [(format!("={from}"), format!("={to}")), (format!("{from}/"), format!("{to}/"))]
            })
            .collect();
        self.arguments.iter_mut().for_each(|text| *text = replace_once(text, &patterns));
        self.variables.values_mut().for_each(|text| *text = replace_once(text, &patterns));
    }

    /// Where a volume is.
    pub(super) fn folder(&self, volume: &str) -> PathBuf {
        self.files.path().join(volume)
    }

    /// Replaces a text in arguments and variables: a path, an address, a port.
    pub(super) fn say(&mut self, from: &str, to: &str) {
        // Not within what an earlier call put there.
        let moved = |text: &String| match text.contains(to) {
            true => text.clone(),
            false => text.replace(from, to),
        };
        self.arguments = self.arguments.iter().map(moved).collect();
        self.variables = self.variables.iter().map(|(name, value)| (name.clone(), moved(value))).collect();
    }

    /// Replaces a text in a mounted file.
    pub(super) fn edit(&self, file: &Path, from: &str, to: &str) -> Result<()> {
        let path = self.files.path().join(file);
        let text = std::fs::read_to_string(&path)?;
        ensure!(text.contains(from), "no {from} in {}", file.display());
        Ok(std::fs::write(path, text.replace(from, to))?)
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(binary(&self.program)?);
        command.args(&self.arguments).env_clear().envs(&self.variables);
        Ok(command)
    }

    /// Runs it as the last words of another command.
    pub(super) fn start_by(&self, command: &mut Command) -> Result<Daemon> {
        Daemon::start(command.arg(binary(&self.program)?).args(&self.arguments).envs(&self.variables))
    }

    /// Puts a file into a volume.
    pub(super) fn write(&self, file: &Path, text: &str) -> Result<()> {
        Ok(std::fs::write(self.files.path().join(file), text)?)
    }

    /// Lets the binary judge flags, variables and files.
    pub(super) fn check(&self) -> Result<()> {
        let mut command = self.command()?;
        let output = command.arg("--check-config").output()?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
        Ok(())
    }

    /// Runs it.
    pub(super) fn start(&self) -> Result<Daemon> {
        Daemon::start(&mut self.command()?)
    }
}

/// Replaces all patterns in one pass, so that nothing is replaced within a replacement: the folders may
/// themselves lie below a path such as `/tmp` that another volume is mounted at.
fn replace_once(text: &str, patterns: &[(String, String)]) -> String {
    let (mut done, mut rest) = (String::new(), text);
    let next = |rest: &str| {
        let found =
            patterns.iter().filter_map(|(from, to)| Some((rest.find(from.as_str())?, from.len(), to)));
        found.min_by_key(|(at, len, _)| (*at, std::cmp::Reverse(*len)))
    };
    while let Some((at, len, to)) = next(rest) {
        done = done + &rest[..at] + to;
        rest = &rest[at + len..];
    }
    done + rest
}
