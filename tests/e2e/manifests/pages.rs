//! What manifests and pages say about flags and variables is what the binaries know.

use anyhow::{Context, Result, ensure};
use e2e::parts::kustomize;
use e2e::process::run;
use e2e::{binary, repository};

use super::{container, examples, objects, problems, scratch, workload};

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
pub(super) fn block<'a>(page: &'a str, kind: &str) -> Result<&'a str> {
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
        ensure!(check(before)? == 0 && check(after)? == 1, "{page}");
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

/// Checks every container of ours with `--check-config`; says how many there are.
fn check(manifests: &str) -> Result<usize> {
    let containers = container::ours(&objects(manifests)?)?;
    containers.iter().try_for_each(container::Container::check)?;
    Ok(containers.len())
}

#[test]
#[ignore = "needs kubectl and python3"]
fn the_binaries_understand_every_manifest() -> Result<()> {
    for example in examples()? {
        let checked = check(&kustomize(&example)?)?;
        ensure!(checked > 0, "{} has none of our containers", example.display());
    }
    Ok(())
}

#[test]
#[ignore = "needs kubectl and python3"]
fn the_lines_of_the_readme_add_a_sidecar() -> Result<()> {
    let readme = std::fs::read_to_string(repository().join("images/kustomize/README.md"))?;
    let (_, rest) = readme.split_once("```yaml\n").context("no lines to copy")?;
    let lines = rest.split_once("```").context("they do not end")?.0;
    let directory = scratch()?;
    let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
    file("app.yaml", &workload("Deployment", "app"))?;
    let kustomization = lines.replace("components/gitsync #", "../../images/kustomize/components/gitsync #");
    file("kustomization.yaml", &format!("resources: [app.yaml]\n{kustomization}"))?;
    let manifests = kustomize(directory.path())?;
    let found = problems(&manifests)?;
    ensure!(found.is_empty(), "{found}");
    ensure!(
        manifests.contains("image: registry.example.com/pattern-containers/gitsync:0.1.0"),
        "{manifests}"
    );
    ensure!(check(&manifests)? == 1, "{manifests}");
    Ok(())
}
