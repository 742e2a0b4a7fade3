"""Photographs that are named by their path below a folder, and nothing outside of it: neither by `..` nor by links."""

from pathlib import Path, PurePosixPath, PureWindowsPath


def find_below(folder: Path, name: str) -> Path | None:
    """The file of that name below a folder, without links in its path; None if there is none, for whatever reason.

    Args:
        folder: itself without links, see `Path.resolve`. Who may write below it may exchange a file while it is read.
        name: a relative path with forward slashes.
    """
    is_odd = not name or "\0" in name or "\\" in name or PureWindowsPath(name).anchor
    if is_odd or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return None
    try:
        found = (folder / name).resolve(strict=True)
        return found if found.is_relative_to(folder) and found.is_file() else None
    except (OSError, ValueError, RuntimeError):  # no rights, no such letters here, links in a circle
        return None
