"""Shows that each bill of materials is valid by the libraries of those who define the formats, and that it, the list
in the binary and the lock file agree. Usage: sbom_check.py FOLDER BINARY...   (FOLDER/BINARY.{cdx,spdx,crates}.json)"""

import json
import pathlib
import sys
import tomllib

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document


def cargo_purls(locators):
    return {locator.removeprefix("pkg:cargo/").replace("%2B", "+") for locator in locators if locator.startswith("pkg:cargo/")}


def check(folder, binary, lock):
    text = (folder / f"{binary}.cdx.json").read_text()
    problem = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    if problem:
        sys.exit(f"error: {binary}.cdx.json is not valid CycloneDX: {problem}")
    cyclonedx = cargo_purls(part.get("purl", "") for part in json.loads(text)["components"])

    spdx_file = str(folder / f"{binary}.spdx.json")
    for message in validate_full_spdx_document(parse_file(spdx_file)):
        sys.exit(f"error: {spdx_file} is not valid SPDX: {message.validation_message}")
    packages = json.loads(pathlib.Path(spdx_file).read_text())["packages"]
    spdx = cargo_purls(ref["referenceLocator"] for part in packages for ref in part.get("externalRefs", []))

    embedded = json.loads((folder / f"{binary}.crates.json").read_text())["packages"]
    inside = {f"{crate['name']}@{crate['version']}" for crate in embedded if crate["source"] == "crates.io"}
    if not inside == cyclonedx == spdx:
        sys.exit(f"error: {binary}: the lists differ: {inside ^ cyclonedx} {inside ^ spdx}")
    if inside - lock:
        sys.exit(f"error: {binary}: not in the lock file: {inside - lock}")
    if not inside or [crate["name"] for crate in embedded if crate.get("root")] != [binary]:
        sys.exit(f"error: {binary}: the list in the binary names no crates or another root")
    print(f"{binary}: {len(inside)} crates, the same in CycloneDX, SPDX and the binary, all in the lock file")


folder = pathlib.Path(sys.argv[1])
lock = {f"{p['name']}@{p['version']}" for p in tomllib.loads(pathlib.Path("Cargo.lock").read_text())["package"]}
for binary in sys.argv[2:]:
    check(folder, binary, lock)
