"""The card of drawn data: Croissant 1.0 (MLCommons), with licence, settings, versions, and sums of every file.

`SHA256SUMS` has the form that `sha256sum -c` checks; the card holds its own sha256, and so those of all files.
"""

import contextlib
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tinydefects.data.json_files import read_json, write_json
from tinydefects.data.map_files import file_sha256
from tinydefects.data.pixels import write_whole
from tinydefects.datasets.synthetic.dataset import FORMAT_VERSION, Settings
from tinydefects.errors import DatasetError

CARD, SUMS = "croissant.json", "SHA256SUMS"
CC0 = "https://creativecommons.org/publicdomain/zero/1.0/"
HOME = "https://github.com/tinydefects/tinydefects"
PACKAGES = ("tinydefects", "numpy", "scipy", "pillow")  # what computes the pixels, and what packs them
FOLDERS = {"training": "train", "test": "test", "masks": "ground_truth"}
CITATION = (
    "@misc{tinydefects, title={tinydefects: finding defects a few pixels wide, and measuring how small one can go}, "
    f"author={{The tinydefects authors}}, howpublished={{\\url{{{HOME}}}}}}}"
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "drawing": {"@id": f"{HOME}#drawing", "@type": "@json"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def versions_here() -> dict[str, str]:
    """What may change a byte of a drawing: the packages, and the widest instructions that numpy finds here."""
    found = np.show_config(mode="dicts")["SIMD Extensions"]
    told = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):  # a checkout need not be installed
            told[name] = metadata.version(name)
    widest = (found.get("found") or found.get("baseline") or ["unknown"])[-1]
    return told | {"format": str(FORMAT_VERSION), "instructions": f"{platform.machine()} {widest}"}


class Drawing(BaseModel):
    """What was drawn, a family a part, and with what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: tuple[Settings, ...]
    versions: dict[str, str] = Field(default_factory=versions_here)


def write_sums(out: Path, sums: Mapping[str, str]) -> None:
    """The sha256 of files by their paths below the folder.

    Raises:
        TinyDefectsError: the folder cannot be written.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    write_whole(out / SUMS, lambda file: file.write(lines.encode()))


def read_sums(out: Path) -> dict[str, str]:
    """The sha256 of every file by its path below the folder.

    Raises:
        DatasetError: the file is missing, or not the one that the card holds the sha256 of.
    """
    path, card = out / SUMS, _read_card(out)
    known = [one.get("sha256") for one in card.get("distribution", []) if one.get("@id") == SUMS]
    if not path.is_file() or known != [file_sha256(path)]:
        raise DatasetError(f"{path}: missing, or not that of {out / CARD}; draw into a new folder")
    pairs = (line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return {name: digest for digest, name in pairs}


def read_drawing(out: Path) -> Drawing:
    """What the card of a folder says was drawn.

    Raises:
        DatasetError: it has no card, or one that does not say.
    """
    try:
        return Drawing.model_validate_json(json.dumps(_read_card(out)["drawing"]))
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{out / CARD}: is not a card of drawn parts; name a new folder") from error


def _read_card(out: Path) -> dict[str, Any]:
    card = read_json(out / CARD, DatasetError, kind="card", way_out="name a new folder, or remove this one first")
    return card if isinstance(card, dict) else {}


def write_card(out: Path, drawing: Drawing) -> None:
    """The card of a folder that holds everything else.

    Raises:
        TinyDefectsError: the folder cannot be written.
    """
    families = [settings.family for settings in drawing.settings]
    several = "parts and surfaces" if len(families) > 1 else "part or surface"
    card = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"drawn_{'_'.join(families)}_{drawing.settings[0].fingerprint}",
        "description": f"Drawn photographs of {', '.join(families)} ({several} without people, places or brands), good "
        "and with planted defects. Masks are exact to the pixel: each pixel of a defect differs from the clean drawing "
        "and no other does. Drawn by a program from the settings under 'drawing'; the same settings and versions give "
        "the same bytes. Made to measure how small and how faint a defect a detector finds: it says nothing about how "
        "often defects occur, and drawn surfaces are simpler than photographs.",
        "license": CC0,
        "url": HOME,
        "version": f"{FORMAT_VERSION}.0.0",
        "datePublished": datetime.now(UTC).date().isoformat(),  # the one thing here that tells two drawings apart
        "creator": {"@type": "sc:Organization", "name": "The tinydefects authors", "url": HOME},
        "citeAs": CITATION,
        "keywords": ["anomaly detection", "anomaly segmentation", "industrial inspection", "synthetic images"],
        "isLiveDataset": False,
        "distribution": [
            _file(out, SUMS, "text/plain"),
            *(_file(out, f"{family}/manifest.json", "application/json") for family in families),
            *(_files(name, folder) for name, folder in FOLDERS.items()),
        ],
        "recordSet": [_records(name, folder) for name, folder in FOLDERS.items()],
        "drawing": drawing.model_dump(mode="json"),
    }
    write_json(out / CARD, card)


def _file(out: Path, name: str, media_type: str) -> dict[str, str]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "encodingFormat": media_type,
        "sha256": file_sha256(out / name),
    }


def _files(name: str, folder: str) -> dict[str, Any]:
    place = f"*/{folder}/*/*.png"
    return {"@type": "cr:FileSet", "@id": name, "name": name, "encodingFormat": "image/png", "includes": place}


def _records(name: str, folder: str) -> dict[str, Any]:
    """One record a file: its pixels, and what its path says."""
    said = {  # from the start of the path: readers match there
        "family": f"^([^/]+)/{folder}/",
        "kind": f"^[^/]+/{folder}/([^/]+)/",
        "number": r"^.*/([0-9]+)(?:_mask)?\.png$",
    }
    sources: dict[str, tuple[str, dict[str, Any]]] = {
        part: ("sc:Text", {"extract": {"fileProperty": "fullpath"}, "transform": {"regex": regex}})
        for part, regex in said.items()
    } | {"pixels": ("sc:ImageObject", {"extract": {"fileProperty": "content"}})}
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}_records/{part}",
            "name": part,
            "dataType": kind,
            "source": {"fileSet": {"@id": name}, **source},
        }
        for part, (kind, source) in sources.items()
    ]
    return {"@type": "cr:RecordSet", "@id": f"{name}_records", "name": f"{name}_records", "field": fields}
