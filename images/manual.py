#!/usr/bin/env python3
"""Manual pages and shell completions, from what the binaries themselves say to `--help`.

  images/manual.py BINARIES FOLDER

BINARIES is a folder with gitsync, redis-ambassador and metrics-adapter. Into FOLDER go share/man/man1/*.1,
share/bash-completion/completions/*, share/zsh/site-functions/_* and share/fish/vendor_completions.d/*.fish, the layout of
/usr/local.
"""

import datetime
import os
import pathlib
import re
import subprocess
import sys
from dataclasses import dataclass, field

NAMES = ["gitsync", "redis-ambassador", "metrics-adapter"]
OPTION = re.compile(r"^ {1,8}(?:-(\w)(?:, )?)?\s*(?:--([\w.-]+))?(\[=?<[^>]*>\]| <[^>]*>| [A-Z][A-Z0-9=_]*)?(?:\s{2,}(\S.*)|\s*)$")
HEADING = re.compile(r"^(\S.*):$")
ENTRY = re.compile(r"^ {2}([a-z][\w-]*)( [A-Z][^ ]*)?\s{2,}(\S.*)$")
FILES = ("FILE", "DIR", "PATH")


@dataclass
class Option:
    short: str | None
    long: str | None
    value: str
    help: str

    def takes_value(self):
        return bool(self.value) and not self.value.startswith("[")

    def file(self):
        return any(kind in self.value for kind in FILES)


@dataclass
class Page:
    """One command: what its `--help` says, taken apart."""

    command: tuple
    about: str = ""
    usage: list = field(default_factory=list)
    groups: list = field(default_factory=list)  # (title, [Option])
    words: list = field(default_factory=list)  # (word, help) of modes and commands
    rest: list = field(default_factory=list)  # lines that are neither

    def options(self):
        return [option for _, options in self.groups for option in options]


def ask(binary, *words):
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "100"}
    said = subprocess.run([binary, *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    if said.returncode:
        sys.exit(f"error: {binary} {' '.join(words)} ends with {said.returncode}: {said.stderr}")
    return said.stdout


def understand(command, text):
    page = Page(command)
    lines = text.splitlines()
    blank = lines.index("") if "" in lines else 1
    page.about = " ".join(lines[:blank]).rstrip(".")
    title, in_usage = None, False
    for line in lines[blank:]:
        heading = HEADING.match(line)
        option = OPTION.match(line) if line.startswith(" ") and line.lstrip().startswith("-") else None
        entry = ENTRY.match(line)
        if line.startswith("Usage: "):
            in_usage = True
            page.usage.append(line.removeprefix("Usage: "))
        elif in_usage and line.startswith("  "):
            page.usage.append(line.strip())
        elif heading:
            title, in_usage = heading[1], False
            if title not in ("Arguments", "Modes", "Examples"):
                page.groups.append((title, []))
            elif title == "Examples":
                page.rest.append(line)
        elif option and page.groups and title != "Examples":
            short, long, value, told = option.groups()
            page.groups[-1][1].append(Option(short, long, (value or "").strip(), told or ""))
        elif title == "Examples" and line.strip():
            page.rest.append(line)
        elif entry and title:
            page.words.append((entry[1], entry[3]))
        elif line.startswith("   ") and page.groups and page.groups[-1][1] and title != "Arguments":
            known = page.groups[-1][1][-1]
            known.help = f"{known.help} {line.strip()}".strip()
        elif line.strip() and not line.startswith(" "):
            in_usage = False
            page.rest.append(line)
    page.groups = [(title, options) for title, options in page.groups if options]
    if not page.usage or not (page.options() or page.words or len(command) > 1):
        sys.exit(f"error: `{' '.join(command)} --help` is not understood")
    return page


def pages(binaries, name):
    """The binary's own page, and one for each of its modes."""
    binary = str(binaries / name)
    top = understand((name,), ask(binary, "--help"))
    yield top
    if not top.options():
        for mode, _ in top.words:
            yield understand((name, mode), ask(binary, mode, "--help"))


def roff(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def man_page(page, version, siblings):
    name = "-".join(page.command)
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    date = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%d")
    out = [f'.TH "{name.upper()}" "1" "{date}" "{version}" "Pattern containers"', ".SH NAME",
           f"{roff(name)} \\- {roff(page.about)}", ".SH SYNOPSIS"]
    for line in page.usage:
        out += [f".B {roff(line.split()[0])}", roff(" ".join(line.split()[1:])), ".br"]
    out = out[:-1]
    for title, options in page.groups:
        out.append(f'.SH "{roff(title.upper())}"')
        for option in options:
            names = ", ".join(filter(None, [option.short and f"-{option.short}", option.long and f"--{option.long}"]))
            gap = "" if not option.value or option.value.startswith("[") else " "
            out += [".TP", f"\\fB{roff(names)}\\fR{gap}\\fI{roff(option.value.strip('<>'))}\\fR", roff(option.help)]
    if page.words:
        out.append(".SH COMMANDS")
        for word, told in page.words:
            out += [".TP", f".B {roff(word)}", roff(told)]
    if page.rest:
        out.append(".SH NOTES")
        for line in page.rest:
            out += [roff(line.strip()), ".br"]
        out = out[:-1]
    out += [".SH EXIT STATUS", ".TP", ".B 0", "Ended as asked.", ".TP", ".B 1", "Failed while running.", ".TP", ".B 2",
            "A wrong flag or configuration."]
    if siblings:
        out += [".SH SEE ALSO", ", ".join(f"\\fB{roff(other)}\\fR(1)" for other in siblings)]
    return "\n".join(line for line in out if line) + "\n"


def by_mode(found):
    """The page of each mode, or the only page under an empty name."""
    return {page.command[1] if len(page.command) > 1 else "": page for page in found}


def flags(page):
    return sorted({f"--{o.long}" for o in page.options() if o.long} | {f"-{o.short}" for o in page.options() if o.short})


def bash(name, found):
    function = "_" + name.replace("-", "_")
    out = [f"# bash completion of {name}; generated from its --help.", f"{function}() {{",
           '  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} mode="" flags="" files="" values="" words=""',
           "  COMPREPLY=()"]
    modes = by_mode(found)
    top = modes.pop("")
    if modes:
        out.append('  if [ "$COMP_CWORD" -gt 1 ]; then mode=${COMP_WORDS[1]}; fi')
    out.append('  case $mode in')
    for mode, page in [*modes.items(), ("", top)]:
        files = " ".join(f"--{o.long}" for o in page.options() if o.long and o.takes_value() and o.file())
        values = " ".join(f"--{o.long}" for o in page.options() if o.long and o.takes_value() and not o.file())
        words = " ".join(word for word, _ in page.words)
        out.append(f'    {mode or "*"}) flags="{" ".join(flags(page))}" files=" {files} " values=" {values} " words="{words}" ;;')
    out += ["  esac", '  case $files in *" $before "*) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;; esac',
            '  case $values in *" $before "*) return ;; esac',
            '  case $word in',
            '    -*) mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$word") ;;',
            '    *) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word"; compgen -f -- "$word") ;;',
            "  esac", "}", f"complete -F {function} {name}"]
    return "\n".join(out) + "\n"


def zsh_text(text):
    return re.sub(r"([\[\]:'])", lambda found: {"'": "'\\''"}.get(found[1], "\\" + found[1]), text)


def zsh_arguments(page, indent):
    out = []
    for option in page.options():
        action = ":" + zsh_text(option.value.strip("<>").lower()) + (":_files" if option.file() else ": ") if option.takes_value() else ""
        for name in filter(None, [option.long and f"--{option.long}", option.short and f"-{option.short}"]):
            equals = "=" if action and name.startswith("--") else ""
            out.append(f"{indent}'*{name}{equals}[{zsh_text(option.help)}]{action}' \\")
    return out


def zsh(name, found):
    out = [f"#compdef {name}", f"# generated from {name} --help"]
    modes = by_mode(found)
    top = modes.pop("")
    if modes:
        out += ["if (( CURRENT == 2 )); then", "  local -a modes=("]
        out += [f"    '{word}:{zsh_text(told)}'" for word, told in top.words]
        out += ["  )", "  _describe mode modes", "  return", "fi", "case $words[2] in"]
        for mode, page in modes.items():
            out += [f"  {mode})", "    _arguments \\", *zsh_arguments(page, "      "), "      '*: :_files' ;;"]
        out.append("esac")
    else:
        out += ["_arguments \\", *zsh_arguments(top, "  "), "  '*: :_files'"]
    return "\n".join(out) + "\n"


def fish(name, found):
    out = [f"# fish completion of {name}; generated from its --help."]
    modes = by_mode(found)
    top = modes.pop("")
    quote = lambda text: "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if modes:
        for word, told in top.words:
            out.append(f"complete -c {name} -n __fish_use_subcommand -f -a {word} -d {quote(told)}")
    for mode, page in (modes or {"": top}).items():
        condition = f" -n '__fish_seen_subcommand_from {mode}'" if mode else ""
        for option in page.options():
            names = (f" -s {option.short}" if option.short else "") + (f" -l {option.long}" if option.long else "")
            kind = (" -r -F" if option.file() else " -x") if option.takes_value() else ""
            out.append(f"complete -c {name}{condition}{names}{kind} -d {quote(option.help)}")
    return "\n".join(out) + "\n"


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def main(arguments):
    if len(arguments) != 2:
        sys.exit(__doc__)
    binaries, share = pathlib.Path(arguments[0]), pathlib.Path(arguments[1]) / "share"
    for name in NAMES:
        found = list(pages(binaries, name))
        version = " ".join(ask(str(binaries / name), "--version").split()[:2])
        titles = ["-".join(page.command) for page in found]
        for page, title in zip(found, titles):
            put(share / "man/man1" / f"{title}.1", man_page(page, version, [other for other in titles if other != title]))
        put(share / "bash-completion/completions" / name, bash(name, found))
        put(share / "zsh/site-functions" / f"_{name}", zsh(name, found))
        put(share / "fish/vendor_completions.d" / f"{name}.fish", fish(name, found))


main(sys.argv[1:])
