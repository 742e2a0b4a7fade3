"""What the site has beside docs/: every command, every public name, and a search that works offline."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

from tinydefects.cli.app import COMMANDS, NAME, app, load_command

MODULES_WITH_PUBLIC_NAMES = (NAME, f"{NAME}.metrics")
SEARCH_WORKER = "assets/javascripts/search_worker.js"
START_FROM_MEMORY = """// Browsers start no worker from a file, but one from memory.
if (location.protocol === "file:") {
  const source = %s;
  const FromAddress = Worker;
  Worker = function () { return new FromAddress(URL.createObjectURL(new Blob([source]))); };
}
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Called by MkDocs after its plugins, of which `offline` would fetch such a script from the network."""
    config.extra["polyfills"] = [SEARCH_WORKER]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs once it knows the files of docs/."""
    for path, text in (("commands.md", commands()), ("api.md", public_names())):
        files.append(File.generated(config, path, content=text))
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """Called by MkDocs once all files are written."""
    site = Path(config.site_dir)
    (worker,) = (site / "assets/javascripts/workers").glob("search.*.min.js")
    (site / SEARCH_WORKER).write_text(START_FROM_MEMORY % json.dumps(worker.read_text()))


def commands() -> str:
    """Every command with its options, as typer describes them; in the program itself each is loaded when asked for."""
    program: Any = get_command(app)
    program.commands = {name: load_command(name) for name in COMMANDS}
    page = get_docs_for_click(obj=program, ctx=Context(program), name=NAME, title="Every command")
    return re.sub(r"\*\*Commands\*\*:.*?(?=^## )", "", page, flags=re.DOTALL | re.MULTILINE)  # cut short by typer


def public_names() -> str:
    """One entry for mkdocstrings for each name in `__all__`."""
    lines = ["# Python", ""]
    for module in MODULES_WITH_PUBLIC_NAMES:
        names = getattr(importlib.import_module(module), "__all__", [])
        lines += [f"::: {module}.{name}\n" for name in sorted(names)]
    return "\n".join(lines)
