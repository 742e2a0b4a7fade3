"""What the site has beside docs/: every command, every public name, and a search that works offline."""

import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NAME = "tinydefects"
MODULES_WITH_PUBLIC_NAMES = (NAME, f"{NAME}.metrics")
PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
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
    """Every command with its options, as typer describes them."""
    program, _, _ = tomllib.loads(PYPROJECT.read_text())["project"]["scripts"][NAME].partition(":")
    typed = [sys.executable, "-m", "typer", program, "utils", "docs", "--name", NAME, "--title", "Every command"]
    page = subprocess.run(typed, check=True, capture_output=True, text=True).stdout
    return re.sub(r"\*\*Commands\*\*:.*?(?=^## )", "", page, flags=re.DOTALL | re.MULTILINE)  # cut short by typer


def public_names() -> str:
    """One entry for mkdocstrings for each name in `__all__`."""
    lines = ["# Python", ""]
    for module in MODULES_WITH_PUBLIC_NAMES:
        names = getattr(importlib.import_module(module), "__all__", [])
        lines += [f"::: {module}.{name}\n" for name in sorted(names)]
    return "\n".join(lines)
