"""Runs what the guides print: every command and every configuration of every Markdown file, in order.

    guides.py BINARIES [FILE...]      default: all Markdown files of the repository

Runs in network and mount namespaces of its own (.ci/guides), where the hosts that the guides name exist and real
servers listen on them. Blocks are told apart by their language:

    sh        every line is a command
    console   lines after `$ ` are commands; what follows one is what it must print (`…` stands for anything)
    yaml      a configuration: an adapter's, rule tests, a kustomization, containers of a pod,
              a security context with one of our seccomp profiles
    json      must parse
    text      drawings; not run, as blocks without a language are not, and so without a command

A command that ends must succeed (it is tried again for a while: servers need time). A server must serve, and goes on for
the rest of its file, or until one of the same program follows. Folders of the guides (/srv, /volume, ...) are kept below
a temporary one. A file without anything to run counts for nothing; a block of another language is an error, and so is code
that is only indented, since nobody would run it. A JVM's options are compared with those of the one that runs."""

import contextlib
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
import time

import yaml

import guides_stage

PATIENCE = 60
# As deep as its list item, if it is in one.
BLOCK = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"\n\n(?: {4}|\t)\S")
PROGRAMS = ("gitsync", "redis-ambassador", "metrics-adapter")
COMMAND = re.compile(rf"^(\$ |({'|'.join(PROGRAMS)}|cargo|curl|git|java|kubectl|make|podman) \S)", re.MULTILINE)
# What begins a command of ours that ends by itself.
ENDING = re.compile(r"--one-time|--check-config|--help|--version| (check|explain|lint|test|probe)\b")
# gitsync's list; metrics-adapter has one, too.
SOURCES = "config/sources.yaml"
OPTIONAL = re.compile(r" \[[A-Z]+\]")
FOLDERS = ("/srv", "/volume", "/secrets", "/config", "/etc/redis")


class Failure(Exception):
    pass


class Guide:
    """One Markdown file and the servers that it has started."""

    def __init__(self, path, stage, work):
        self.path, self.stage, self.work = path, stage, work
        self.servers, self.ran = {}, 0
        for folder in FOLDERS:
            (work / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
        stage.furnish(work)

    def run(self):
        text = self.path.read_text()
        if code := INDENTED.search(BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)):
            line = text.count("\n", 0, text.find(code[0].strip())) + 1
            sys.exit(f"error: {self.path}:{line}: code that is only indented is not run: put it between ```")
        try:
            self.lay_down(text)
            for block in BLOCK.finditer(text):
                line = text.count("\n", 0, block.start()) + 1
                try:
                    self.block(block[2].strip(), textwrap.dedent(block[3]))
                except (Failure, ValueError, OSError, yaml.YAMLError) as wrong:
                    sys.exit(f"error: {self.path}:{line}: {wrong}{self.logs()}")
        finally:
            for server in list(self.servers):
                self.stop(server)
        return self.ran

    def lay_down(self, text):
        """Files of configurations: commands before them speak of them."""
        for block in BLOCK.finditer(text):
            content = textwrap.dedent(block[3])
            if block[2].strip() == "yaml" and (name := file_of(yaml.safe_load(content))):
                self.write(name, content)

    def write(self, name, content):
        (self.work / name).write_text(self.place(content) if name == SOURCES else content)

    def block(self, language, content):
        match language:
            case "sh":
                for line in content.replace("\\\n", " ").splitlines():
                    self.command(line, [])
            case "console":
                for part in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
                    command, *printed = part.strip().splitlines()
                    self.command(command, printed)
            case "yaml":
                self.configuration(content)
            case "json":
                json.loads(content)
            case "text" | "":
                if found := COMMAND.search(content):
                    raise Failure(f"a command in a block that is not run: {found[0].strip()}")
            case "yaml before" | "yaml after":
                # The end-to-end tests run these manifests (tests/e2e/manifests).
                pass
            case other:
                raise Failure(f"nothing knows how to run a block of '{other}'")

    # -- commands

    def place(self, text):
        for folder in FOLDERS:
            text = re.sub(rf"(?<![\w.]){folder}\b", f"{self.work}{folder}", text)
        return text

    def command(self, line, printed):
        line = line.strip()
        if not line or line.startswith("#"):
            return
        self.ran += 1
        # Usage lines name what is optional and what there is to choose from.
        while OPTIONAL.search(line):
            line = OPTIONAL.sub("", line)
        choice = re.search(r"[A-Z]+\|[A-Z]+", line)
        lines = [line.replace(choice[0], word) for word in self.stage.choices(choice[0])] if choice else [line]
        for each in lines:
            program = each.split()[0]
            if program == "make":
                # CI runs the targets themselves; here only that they exist.
                self.ends(f"make --dry-run {shlex.split(each, comments=True)[1]}", [], pathlib.Path.cwd())
            elif program == "java":
                self.stage.is_started_with(shlex.split(each))
            elif program in PROGRAMS and not ENDING.search(each):
                self.serves(program, shlex.split(self.place(each), comments=True))
            else:
                self.ends(self.place(each), printed, self.work)

    def ends(self, line, printed, folder):
        deadline, said = time.monotonic() + PATIENCE, ""
        while True:
            if "gitsync" in self.servers:
                # There is always something new to sync.
                self.stage.push()
            with contextlib.suppress(subprocess.TimeoutExpired):
                done = subprocess.run(["bash", "-c", line], cwd=folder, env=self.stage.environment, text=True,
                                      capture_output=True, timeout=PATIENCE)
                said = done.stdout + done.stderr
                if done.returncode == 0 and like(printed, done.stdout):
                    return
            if time.monotonic() > deadline:
                raise Failure(f"'{line}' does not do what the guide says, but:\n{said}")
            time.sleep(0.5)

    def serves(self, program, words):
        self.stop(program)
        log = tempfile.TemporaryFile("w+")
        process = subprocess.Popen(words, cwd=self.work, env=self.stage.environment, stdout=log, stderr=log)
        self.servers[program] = (process, log)
        deadline = time.monotonic() + PATIENCE
        while not self.stage.is_served(program, words):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failure(f"'{' '.join(words)}' does not serve")
            time.sleep(0.2)

    def stop(self, program):
        process, log = self.servers.pop(program, (None, None))
        if process:
            process.terminate()
            process.wait()
            log.close()

    def logs(self):
        said = ""
        for program, (_, log) in self.servers.items():
            log.seek(0)
            said += f"\n--- {program}\n{log.read()[-4000:]}"
        return said

    # -- configurations

    def configuration(self, content):
        self.ran += 1
        value = yaml.safe_load(content)
        name = file_of(value)
        if name:
            self.write(name, content)
        if isinstance(value, list) and all("image" in container for container in value):
            for container in value:
                self.container(container)
        elif "components" in value:
            self.stage.kustomization(self.work, content)
        elif "securityContext" in value:
            profile = value["securityContext"]["seccompProfile"]["localhostProfile"]
            json.loads(pathlib.Path("images/seccomp", pathlib.Path(profile).name).read_text())
        elif name == "push.yaml":
            (self.work / name).write_text("sources: [{type: file, path: stats.json}]\n" + content)
            self.ends(f"metrics-adapter run --check-config {name}", [], self.work)
        elif name == SOURCES:
            self.ends(f"gitsync --sources {name} --check-config", [], self.work)
        elif name == "adapter.yaml":
            self.ends(f"metrics-adapter run --check-config {name}", [], self.work)
        elif name == "mapping.yaml":
            self.ends(f"metrics-adapter statsd lint --statsd.mapping-config {name}", [], self.work)
        elif name == "cases.yaml" and any("lines" in case for case in value["tests"]):
            self.ends(f"metrics-adapter statsd test {name} --statsd.mapping-config mapping.yaml", [], self.work)
        elif name == "cases.yaml" and any("values" in case for case in value["tests"]):
            # A command of the guide says which rules they are for.
            pass
        elif name == "cases.yaml":
            self.ends(f"metrics-adapter run test adapter.yaml {name}", [], self.work)
        elif name == "config.yaml":
            self.ends(f"metrics-adapter jmx --check-config {name}", [], self.work)
        elif not name:
            raise Failure("nothing knows what this configuration is of")

    def container(self, container):
        program = container["image"].split("/")[-1].split(":")[0]
        if program not in PROGRAMS:
            return
        for variable in container.get("env", []):
            self.stage.environment[variable["name"]] = self.place(str(variable.get("value", "")))
        self.serves(program, [program, *(self.place(argument) for argument in container.get("args", []))])


def file_of(value):
    """The name under which a guide's commands know a configuration."""
    if isinstance(value, dict) and any("repo" in source for source in value.get("sources", [])):
        return SOURCES
    names = {"sources": "adapter.yaml", "push": "push.yaml", "tests": "cases.yaml", "mappings": "mapping.yaml", "hostPort": "config.yaml", "rules": "config.yaml"}
    return next((name for key, name in names.items() if isinstance(value, dict) and key in value), None)


def like(printed, said):
    """Whether what a command said is what the guide shows: as JSON by its keys, else line by line."""
    lines = said.strip().splitlines()
    if not printed:
        return True
    if len(printed) > len(lines):
        return False
    return all(alike(shown, line) for shown, line in zip(printed, lines))


def alike(shown, line):
    with contextlib.suppress(ValueError):
        return keys(json.loads(shown)) == keys(json.loads(line))
    return re.fullmatch(".*".join(map(re.escape, shown.rstrip().split("…"))), line.rstrip()) is not None


def keys(value):
    match value:
        case dict():
            return {name: keys(inner) for name, inner in value.items()}
        case list():
            return [keys(inner) for inner in value[:1]]
        case _:
            return None


def main(binaries, names):
    names = names or subprocess.run(["git", "ls-files", "*.md"], check=True, text=True, capture_output=True).stdout.split()
    with guides_stage.Stage(pathlib.Path(binaries).resolve()) as stage:
        for name in names:
            with tempfile.TemporaryDirectory(prefix="guide-") as work:
                ran = Guide(pathlib.Path(name), stage, pathlib.Path(work)).run()
            if ran:
                print(f"{name}: {ran} commands and configurations run", flush=True)


main(sys.argv[1], sys.argv[2:])
