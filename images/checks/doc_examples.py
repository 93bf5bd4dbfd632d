#!/usr/bin/env python3
"""Every public item that the API documentation shows has text and an example.

What is shown is what `cargo doc` shows: items behind `#[doc(hidden)]` are left out, unless they are re-exported where
they are seen. The examples are compiled and run by `check-units`. A method needs none of its own where the example of
its type calls it. Fields, variants and what comes from a trait need text only, which the lint `missing_docs` asks for.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

CRATES = {
    "pattern-common": "common",
    "gitsync": "gitsync",
    "redis-ambassador": "redis_ambassador",
    "metrics-adapter": "metrics_adapter",
}
NEEDS_EXAMPLE = {"function", "struct", "enum", "trait", "macro", "constant"}
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", "target"))


def index_of(crate):
    """Rustdoc's own list of items; its format needs a compiler that is told to allow it."""
    command = ["cargo", "rustdoc", "--locked", "--quiet", "--lib", "--package", crate, "--"]
    command += ["-Zunstable-options", "--output-format=json", "--document-hidden-items"]
    subprocess.run(command, check=True, env={**os.environ, "RUSTC_BOOTSTRAP": "1", "RUSTDOCFLAGS": ""})
    return json.loads((TARGET / "doc" / f"{CRATES[crate]}.json").read_text())


def is_hidden(item):
    return any("hidden" in str(attribute) and "doc" in str(attribute) for attribute in item["attrs"])


def examples(item):
    """The code in an item's documentation."""
    return "\n".join(re.findall(r"^```.*?^```", item["docs"] or "", re.MULTILINE | re.DOTALL))


class Shown:
    """The items of one crate that its documentation shows."""

    def __init__(self, document):
        self.index = {str(key): item for key, item in document["index"].items()}
        self.items = {}
        self.visit(self.index[str(document["root"])], [])

    def visit(self, item, path):
        (kind, inner), = item["inner"].items()
        if kind == "use":
            target = self.index.get(str(inner["id"]))
            # What other crates have is theirs to document.
            if target is None or is_hidden(item):
                return
            if inner["is_glob"]:
                self.children(target, path)
            else:
                self.visit_named(target, [*path, inner["name"]])
            return
        if not is_hidden(item) and item["visibility"] in ("public", "default"):
            self.visit_named(item, [*path, item["name"]])

    def visit_named(self, item, path):
        key = str(item["id"])
        (kind, inner), = item["inner"].items()
        if key in self.items:
            return
        if kind == "module":
            self.items[key] = (kind, "::".join(path), item, None)
            self.children(item, path)
        elif kind in NEEDS_EXAMPLE:
            self.items[key] = (kind, "::".join(path), item, None)
            owned = list(inner["items"]) if kind == "trait" else []
            for block in inner["impls"] if kind in ("struct", "enum") else []:
                block = self.index[str(block)]
                if block["inner"]["impl"]["trait"] is None:
                    owned += block["inner"]["impl"]["items"]
            for each in (self.index[str(each)] for each in owned):
                if not is_hidden(each) and each["visibility"] in ("public", "default"):
                    (each_kind, _), = each["inner"].items()
                    self.items[str(each["id"])] = (each_kind, "::".join([*path, each["name"]]), each, item)

    def children(self, module, path):
        for child in module["inner"]["module"]["items"]:
            self.visit(self.index[str(child)], path)


def main():
    wrong = 0
    for crate in sys.argv[1:] or CRATES:
        needed = 0
        for kind, path, item, owner in sorted(Shown(index_of(crate)).items.values(), key=lambda each: each[1]):
            if not item["docs"]:
                print(f"error: {path} ({kind}) has no documentation", file=sys.stderr)
                wrong += 1
            if kind not in NEEDS_EXAMPLE:
                continue
            needed += 1
            called = owner and re.search(rf"\b{item['name']}\b", examples(owner))
            if not examples(item) and not called:
                print(f"error: {path} ({kind}) has no example", file=sys.stderr)
                wrong += 1
        print(f"{crate}: {needed} items that need an example")
    return 1 if wrong else 0


sys.exit(main())
