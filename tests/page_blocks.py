"""Blocks of code of a Markdown page, run in the order of the page in the working folder. Commands share one Spark session.

`python tests/page_blocks.py PAGE...` runs pages in the working folder and prints each block with its seconds.

- An indented block, `bash`: shell commands. `make TARGET` runs the commands that `make --dry-run` prints.
- `python`: run; with a title written to that file. `yaml`, `json`: written to the file of its title; a YAML block without
  `input` is added to the file.
- A block after `<!-- output -->`: what the block before it printed. Each of its lines must be in the output, in this order,
  except for numbers; `...` is for lines that are left out. After `<!-- output of another corpus -->` it is not compared.
- `mermaid` is a picture. `make demo` and `make test` of the README are run by people and by CI.
"""

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

OUTPUT, OTHER_OUTPUT = "output", "output of another corpus"
EXCEPTED = {"make demo", "make test"}
COMMAND = re.compile(r"(?:\.venv/bin/)?betr-spark\s")
SHELL_SYNTAX = re.compile(r"[|<>&;$`]")


class Block(NamedTuple):
    """Code of a page: its language (`output` for what a block prints), text, title and first line."""

    kind: str
    text: str
    title: str
    line: int


def blocks_of(page: str) -> Iterator[Block]:
    """The blocks of a page."""
    lines, marker, number = page.split("\n"), "", 0
    while number < len(lines):
        line = lines[number]
        start = number + 1
        if comment := re.fullmatch(r"<!-- (.+) -->", line):
            marker = comment[1]
        elif fence := re.fullmatch(r"```(\w+)(?: title=\"([^\"]+)\")?.*", line):
            end = lines.index("```", start)
            yield Block(marker or fence[1], "\n".join(lines[start:end]), fence[2] or "", start)
            marker, number = "", end
        elif line.startswith("    ") and not lines[number - 1].strip():
            end = number
            while end < len(lines) and (not lines[end].strip() or lines[end].startswith("    ")):
                end += 1
            yield Block(marker or "bash", "\n".join(text[4:] for text in lines[number:end]).strip(), "", start)
            marker, number = "", end - 1
        elif line.strip():
            marker = ""
        number += 1


def commands_of(text: str) -> list[str]:
    """Commands of a shell block: continued lines are one, comments are left out."""
    lines = text.replace("\\\n", " ").splitlines()
    return [command for line in lines if (command := re.sub(r"(^|\s+)#.*", "", line).strip())]


def run_block(block: Block, names: dict[str, Any], before: str) -> str:
    """Run a block; returns what it printed. An output block returns the output before it.

    Raises:
        Exception: that of Python, or AssertionError for a command that fails and for output that differs.
    """
    if block.kind == OUTPUT:
        assert_printed(block.text, before)
        return before
    if block.kind in ("yaml", "json"):
        write(Path(block.title or "mine.yaml"), block)
        return ""
    if block.kind == "python" and block.title:
        Path(block.title).write_text(f"{block.text}\n", encoding="utf-8")
        return ""
    assert block.kind in ("bash", "python"), f"line {block.line}: a block of {block.kind} is not run"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            if block.kind == "python":
                exec(compile(block.text, f"line {block.line}", "exec"), names)
            else:
                for command in commands_of(block.text):
                    run_command(command)
        except BaseException as error:
            raise AssertionError(f"line {block.line}:\n{printed.getvalue()[-5000:]}\n{error!r}") from error
    return printed.getvalue()


def run_command(command: str) -> None:
    """Run a command: betr-spark in this process, all others by bash. What it prints is printed here."""
    if command.startswith("make "):
        listed = subprocess.run(
            [*shlex.split(command), "--dry-run", "--silent"], capture_output=True, text=True, check=True
        )
        for each in commands_of(listed.stdout):
            run_command(each)
    elif COMMAND.match(f"{command} ") and not SHELL_SYNTAX.search(command):
        from betr_spark.cli import main

        code: object = None
        try:
            main(shlex.split(command)[1:])
        except SystemExit as status:
            code = status.code
        assert not code, f"{command}: exit code {code}"
    else:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True, check=False)
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        assert not done.returncode, f"{command}: exit code {done.returncode}"


def write(path: Path, block: Block) -> None:
    """Write a block to its file; a part of a configuration is added to it."""
    text = block.text
    if block.kind == "yaml" and "input" not in (part := yaml.safe_load(text)):
        text = yaml.safe_dump(added(yaml.safe_load(path.read_text(encoding="utf-8")), part), sort_keys=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def added(mapping: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The mapping with the keys of a part added, at any depth."""
    both = {
        key: added(mapping[key], value) for key, value in part.items() if isinstance(value, dict) and key in mapping
    }
    return {**mapping, **part, **both}


def masked(text: str) -> list[str]:
    """Lines without numbers and spaces, and without lines that have nothing else."""
    lines = [re.sub(r"[\d.,:]*\d|\s+|-{2,}", "", line) for line in text.splitlines()]
    return [line for line in lines if line]


def assert_printed(documented: str, printed: str) -> None:
    """The documented lines are among the printed ones, in this order, except for numbers."""
    rest = iter(masked(printed))
    for line in documented.splitlines():
        for wanted in masked(line):
            if wanted != "...":
                assert any(wanted == found for found in rest), f"not printed: {line}\nprinted:\n{printed[-5000:]}"


def purpose_of(page: str, block: Block) -> str:
    """Whether a block is `run`, `compared` with what was printed, or neither: `shown`."""
    if block.kind == OUTPUT:
        return "compared"
    excepted = page == "README.md" and block.kind == "bash" and EXCEPTED.issuperset(commands_of(block.text))
    return "shown" if excepted or block.kind in (OTHER_OUTPUT, "mermaid") else "run"


def main(pages: Sequence[str]) -> None:
    """Run pages, and print how many of their blocks were run, compared and only shown."""
    counts = Counter[str]()
    for page in pages:
        names: dict[str, Any] = {"__name__": page}
        printed = ""
        for block in blocks_of(Path(page).read_text(encoding="utf-8")):
            began, purpose = time.monotonic(), purpose_of(page, block)
            if purpose != "shown":
                printed = run_block(block, names, printed)
            counts[purpose] += 1
            print(f"{page}:{block.line} {block.kind} {purpose}, {time.monotonic() - began:.1f} s", flush=True)
            if printed and purpose == "run":
                print("\n".join(f"    {line}" for line in printed.splitlines()), flush=True)
    print(json.dumps(counts))


if __name__ == "__main__":
    main(sys.argv[1:])
