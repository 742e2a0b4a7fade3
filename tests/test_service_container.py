"""Dockerfile and compose.yaml, as far as they can be checked without building: what they name and ask for exists."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tinydefects.cli.app import load_command
from tinydefects.serve.service_settings import ServeSettings

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICE = COMPOSE["services"]["inspection"]


def instructions(name):
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, flags=re.MULTILINE)


def test_what_is_copied_exists_and_is_not_ignored():
    allowed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    copied = {word for words in instructions("COPY") for word in words.split()[:-1] if not words.startswith("--from")}
    assert copied == allowed
    assert all((ROOT / word).exists() for word in copied)


def test_its_extras_exist_and_bring_no_torch():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (asked,) = instructions("ARG")
    brought = [package for name in asked.removeprefix("EXTRAS=").split(",") for package in extras[name]]
    assert brought
    assert not [package for package in brought if re.match(r"torch|timm|tinydefects", package)]


@pytest.mark.parametrize("words", [json.loads(instructions("CMD")[-1]), SERVICE["command"]])
def test_the_command_is_one_that_exists(words):
    program, name, *own = json.loads(instructions("ENTRYPOINT")[0])
    assert program == "tinydefects"
    found = load_command(name).make_context(name, [*own, *words]).params
    assert (found["host"], found["port"], found["models"]) == ("0.0.0.0", 8000, ["/models/model"])


def test_it_runs_as_nobody_in_particular_and_can_write_only_where_it_must():
    assert instructions("USER")[-1] == "10001"
    assert SERVICE["user"] == "10001:10001"
    assert SERVICE["read_only"] is True
    assert SERVICE["cap_drop"] == ["ALL"]
    assert SERVICE["security_opt"] == ["no-new-privileges:true"]
    assert [place.partition(":")[0] for place in SERVICE["tmpfs"]] == ["/tmp", "/scratch"]
    assert all(place.endswith(":ro") for place in SERVICE["volumes"])
    assert all(port.startswith("127.0.0.1:") for port in SERVICE["ports"])


def test_there_is_a_key_and_room_and_time_enough():
    assert f"/run/secrets/{SERVICE['secrets'][0]}" in SERVICE["command"]
    assert COMPOSE["secrets"][SERVICE["secrets"][0]]["file"] == "./api_key.txt"
    settings = ServeSettings()
    size = int(re.search(r"size=(\d+)m", SERVICE["tmpfs"][1])[1])
    assert size > settings.places * settings.most_megabytes
    assert int(SERVICE["stop_grace_period"].removesuffix("s")) > settings.stop_seconds + 5
