"""What a process must have before it works on another's jobs: the same code, and the same folders."""

import hashlib
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import TypeAlias

from tinydefects.errors import TinyDefectsError

PACKAGES_ALIKE = ("numpy", "scipy", "pillow", "torch", "timm", "dask", "distributed", "cloudpickle")
Versions: TypeAlias = tuple[tuple[str, str], ...]


class ClusterError(TinyDefectsError, ConnectionError):
    """A cluster that cannot be reached, cannot run a job, or whose workers differ from this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What a process must have before it works on a job.

    Attributes:
        versions: of packages and of this package's own files, as pairs of name and version; "" is not installed. None
            are compared on one machine.
        root: folder of the datasets, with the names of the folders in it; None where there is none.
        out: folder of the results, and the name of a file in it that only a shared folder shows.
    """

    versions: Versions = ()
    root: tuple[Path, frozenset[str]] | None = None
    out: tuple[Path, str] | None = None


@contextmanager
def open_admission(versions: Versions, root: Path | None, out: Path | None) -> Iterator[Admission]:
    """What workers must have; while it is open, a file with a random name lies in the output folder."""
    root, out = (path.resolve() if path else None for path in (root, out))
    token = f".shared-{secrets.token_hex(8)}"
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / token).touch()
    try:
        yield Admission(
            versions=versions,
            root=(root, _folders_in(root)) if root and root.is_dir() else None,
            out=(out, token) if out else None,
        )
    finally:
        if out:
            (out / token).unlink(missing_ok=True)


@cache
def refusal_of(admission: Admission) -> str:
    """Why this process must not work on the jobs of another; empty when it may."""
    here = f"worker on {socket.gethostname()}"
    for (name, wanted), (_, found) in zip(
        admission.versions, own_versions() if admission.versions else (), strict=True
    ):
        if wanted != found:
            return f"{here}: has {name} {found or '(not installed)'}, this machine {wanted or 'none'}; make them equal"
    if admission.root and not admission.root[1] <= _folders_in(admission.root[0]):
        return f"{here}: sees another {admission.root[0]}; share the dataset folder under the same path"
    if admission.out and not (admission.out[0] / admission.out[1]).is_file():
        return f"{here}: does not see {admission.out[0]} as this machine does; share the output folder"
    if admission.out and not os.access(admission.out[0], os.W_OK):
        return f"{here}: cannot write to {admission.out[0]}; mend the rights of the shared output folder"
    return ""


@cache
def own_versions() -> Versions:
    """What must be equal where jobs of one benchmark run: Python, packages, and every file of this package."""
    code = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        code.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    own = f"{_version('tinydefects')}, code {code.hexdigest()[:12]}"
    packages = tuple((name, _version(name).partition("+")[0]) for name in PACKAGES_ALIKE)  # torch 2.10+cpu, +cu128
    return (("tinydefects", own), ("Python", python_version()), *packages)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _folders_in(folder: Path) -> frozenset[str]:
    inside = folder.iterdir() if folder.is_dir() else ()
    return frozenset(path.name for path in inside if path.is_dir() and not path.name.startswith("."))
