#!/usr/bin/env python3
"""What is inside a binary, from the lock file.

  images/sbom.py embed BINARY FILE          puts the list of crates into the executable FILE, as cargo-auditable does
  images/sbom.py write BINARY FILE FOLDER   FOLDER/BINARY.cdx.json (CycloneDX 1.5) and FOLDER/BINARY.spdx.json (SPDX 2.3)
  images/sbom.py read FILE                  prints the list embedded in FILE

BINARY is the package's name. Only what the package itself builds with is listed, on this target, with the features of
the image. Nothing depends on the clock or the folder: the same commit gives the same bytes.

VERSION, REVISION, SOURCE_DATE_EPOCH and TRIPLE come from the environment (images/build.sh sets them).
"""

import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib
import uuid
import zlib

# The section that scanners look for: https://github.com/rust-secure-code/cargo-auditable/blob/master/PARSING.md
SECTION = ".dep-v0"
# A list of some hundred crates takes a few kilobytes; more than this was not written by us.
LONGEST_LIST = 8 << 20
HOME = "https://github.com/pattern-containers/pattern-containers"
# Crates that compile a C library into the binary; it is named in their version, after the plus sign.
BUNDLED = {"libgit2-sys": ("libgit2", "GPL-2.0-only WITH GCC-exception-2.0"), "zstd-sys": ("zstd", "BSD-3-Clause")}
LINE = re.compile(r"^(\d+)(\S+) v(\S+?)( \(proc-macro\))?(?: \((.*?)\))?\|(.*?)( \(\*\))?$")


class Graph:
    """Crates by (name, version), and who needs whom."""

    def __init__(self, package):
        self.root = None
        self.licences, self.edges, self.macros = {}, {}, set()
        self.read(package, "normal")
        runtime = self.reachable()
        self.read(package, "normal,build")
        self.build_only = set(self.edges) - runtime

    def read(self, package, kinds):
        command = ["cargo", "tree", "--locked", "--package", package, "--edges", kinds, "--prefix", "depth",
                   "--format", "{p}|{l}"]
        if os.environ.get("TRIPLE"):
            command += ["--target", os.environ["TRIPLE"]]
        path = []
        for line in subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines():
            found = LINE.match(line)
            if not found:
                sys.exit(f"error: `cargo tree` says what is not understood: {line}")
            depth, name, version, macro, _, licence, _ = found.groups()
            crate = (name, version)
            del path[int(depth):]
            if path:
                self.edges[path[-1]].add(crate)
            else:
                self.root = crate
            path.append(crate)
            self.edges.setdefault(crate, set())
            self.licences[crate] = licence.replace("/", " OR ")
            if macro:
                self.macros.add(crate)

    def reachable(self):
        """What ends up in the binary: all but macros, which run in the compiler, and what only they need."""
        seen, left = set(), [self.root]
        while left:
            crate = left.pop()
            if crate not in seen and crate not in self.macros:
                seen.add(crate)
                left += self.edges[crate]
        return seen

    def crates(self):
        return sorted(self.edges)


def lock_file():
    """Checksum and source of each crate."""
    lock = tomllib.loads(pathlib.Path("Cargo.lock").read_text())
    return {(p["name"], p["version"]): p for p in lock["package"]}


def source_of(entry):
    source = entry.get("source", "")
    if not source:
        return "local"
    return "crates.io" if "crates.io-index" in source else source.split("+")[0]


def audit_list(graph, lock):
    crates = graph.crates()
    index = {crate: at for at, crate in enumerate(crates)}
    packages = []
    for crate in crates:
        package = {"name": crate[0], "version": crate[1], "source": source_of(lock[crate])}
        if crate in graph.build_only:
            package["kind"] = "build"
        if graph.edges[crate]:
            package["dependencies"] = sorted(index[needed] for needed in graph.edges[crate])
        if crate == graph.root:
            package["root"] = True
        packages.append(package)
    return {"packages": packages}


def embed(package, path):
    text = json.dumps(audit_list(Graph(package), lock_file()), separators=(",", ":")).encode()
    with tempfile.NamedTemporaryFile() as section:
        section.write(zlib.compress(text, 9))
        section.flush()
        # Not loaded: it costs a running process nothing.
        subprocess.run(["objcopy", "--remove-section", SECTION, "--add-section", f"{SECTION}={section.name}",
                        "--set-section-flags", f"{SECTION}=noload,readonly", path], check=True)


def read(path):
    with tempfile.NamedTemporaryFile() as section:
        found = subprocess.run(["objcopy", "--dump-section", f"{SECTION}={section.name}", path, "/dev/null"],
                               text=True, stderr=subprocess.PIPE)
        packed = pathlib.Path(section.name).read_bytes()
    if found.returncode or not packed:
        sys.exit(f"error: {path} has no section {SECTION}: {found.stderr.strip()}")
    return json.loads(zlib.decompressobj().decompress(packed, LONGEST_LIST))


def of_debian(package):
    """The version of an installed Debian package, or None elsewhere."""
    asked = subprocess.run(["dpkg-query", "--showformat", "${Version}", "--show", package], text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return asked.stdout.strip() if asked.returncode == 0 else None


def parts(graph, lock):
    """Every part of the image but the binary itself: (id, name, version, licence, purl, checksum, in the image)."""
    for crate in graph.crates():
        if crate == graph.root:
            continue
        name, version = crate
        entry = lock[crate]
        purl = f"pkg:cargo/{name}@{version.replace('+', '%2B')}" if source_of(entry) != "local" else None
        yield crate, name, version, graph.licences[crate], purl, entry.get("checksum"), crate not in graph.build_only
        if name in BUNDLED and "+" in version:
            library, licence = BUNDLED[name]
            number = version.split("+")[1].split(".", 1)[-1] if library in version else version.split("+")[1]
            yield (f"lib-{library}", number), library, number, licence, f"pkg:generic/{library}@{number}", None, True
    for package, name, licence in (("libc6-dev", "glibc", "LGPL-2.1-or-later"),
                                   ("ca-certificates", "ca-certificates", "MPL-2.0")):
        version = of_debian(package)
        if version:
            yield (name, version), name, version, licence, f"pkg:deb/debian/{package}@{version.replace('+', '%2B')}", None, True


def facts(package, path):
    lock = lock_file()
    graph = Graph(package)
    version = os.environ.get("VERSION", graph.root[1])
    digest = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    when = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    unique = uuid.uuid5(uuid.NAMESPACE_URL, f"{HOME}/{package}/{digest}")
    return graph, list(parts(graph, lock)), version, digest, when, unique


def edges_of(graph, listed):
    """Edges between what is listed, bundled libraries and the C library included."""
    identities = {part[0] for part in listed} | {graph.root}
    for crate, needs in sorted(graph.edges.items()):
        bundled = [i for i in identities if crate[0] in BUNDLED and i[0] == f"lib-{BUNDLED[crate[0]][0]}"]
        system = [i for i in identities if i[0] in ("glibc", "ca-certificates")] if crate == graph.root else []
        yield crate, sorted([*needs, *bundled, *system])


def identifier(part):
    return re.sub(r"[^A-Za-z0-9.-]", "-", f"{part[0]}-{part[1]}")


def cyclonedx(package, found):
    graph, listed, version, digest, when, unique = found
    revision = os.environ.get("REVISION", "unknown")
    components = []
    for part, name, number, licence, purl, checksum, inside in listed:
        component = {"type": "library", "bom-ref": identifier(part), "name": name, "version": number,
                     "scope": "required" if inside else "excluded"}
        if licence:
            component["licenses"] = [{"expression": licence}]
        if purl:
            component["purl"] = purl
        if checksum:
            component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        components.append(component)
    root = {"type": "application", "bom-ref": identifier(graph.root), "name": package, "version": version,
            "licenses": [{"expression": "MIT OR Apache-2.0"}], "hashes": [{"alg": "SHA-256", "content": digest}],
            "properties": [{"name": "revision", "value": revision}],
            "externalReferences": [{"type": "vcs", "url": HOME}]}
    dependencies = [{"ref": identifier(crate), "dependsOn": [identifier(need) for need in needs]}
                    for crate, needs in edges_of(graph, listed)]
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{unique}", "version": 1,
            "metadata": {"timestamp": when, "component": root}, "components": components,
            "dependencies": dependencies}


def spdx(package, found):
    graph, listed, version, digest, when, unique = found
    unknown = "NOASSERTION"
    root = "SPDXRef-" + identifier(graph.root)
    packages = [{"SPDXID": root, "name": package, "versionInfo": version, "downloadLocation": f"git+{HOME}",
                 "filesAnalyzed": False, "licenseConcluded": unknown, "licenseDeclared": "MIT OR Apache-2.0",
                 "copyrightText": unknown, "primaryPackagePurpose": "APPLICATION",
                 "checksums": [{"algorithm": "SHA256", "checksumValue": digest}]}]
    for part, name, number, licence, purl, checksum, _ in listed:
        entry = {"SPDXID": "SPDXRef-" + identifier(part), "name": name, "versionInfo": number,
                 "downloadLocation": unknown, "filesAnalyzed": False, "licenseConcluded": unknown,
                 "licenseDeclared": licence or unknown, "copyrightText": unknown, "primaryPackagePurpose": "LIBRARY"}
        if purl:
            entry["externalRefs"] = [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                                      "referenceLocator": purl}]
        if purl and purl.startswith("pkg:cargo/"):
            entry["downloadLocation"] = f"https://static.crates.io/crates/{name}/{name}-{number}.crate"
        if checksum:
            entry["checksums"] = [{"algorithm": "SHA256", "checksumValue": checksum}]
        packages.append(entry)
    relations = [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": root}]
    for crate, needs in edges_of(graph, listed):
        for need in needs:
            one, other = "SPDXRef-" + identifier(crate), "SPDXRef-" + identifier(need)
            relation = {"spdxElementId": one, "relationshipType": "DEPENDS_ON", "relatedSpdxElement": other}
            if need in graph.build_only:
                relation = {"spdxElementId": other, "relationshipType": "BUILD_DEPENDENCY_OF", "relatedSpdxElement": one}
            relations.append(relation)
    return {"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
            "name": f"{package}-{version}", "documentNamespace": f"{HOME}/spdx/{package}-{version}-{unique}",
            "creationInfo": {"created": when, "creators": ["Tool: images/sbom.py"]},
            "packages": packages, "relationships": relations}


def write(package, path, folder):
    found = facts(package, path)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in (("cdx", cyclonedx(package, found)), ("spdx", spdx(package, found))):
        (folder / f"{package}.{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def main(arguments):
    match arguments:
        case ["embed", package, path]:
            embed(package, path)
        case ["write", package, path, folder]:
            write(package, path, folder)
        case ["read", path]:
            json.dump(read(path), sys.stdout, indent=1)
            print()
        case _:
            sys.exit(__doc__)


main(sys.argv[1:])
