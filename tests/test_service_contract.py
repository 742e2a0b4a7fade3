"""The service against its own OpenAPI document: made-up requests, right ones and wrong ones, by schemathesis."""

import importlib.util
import subprocess
import sys

import pytest

if not all(map(importlib.util.find_spec, ("fastapi", "schemathesis"))):
    pytest.skip("needs the extras 'serve' and 'dev'", allow_module_level=True)

from service_parts import KEY, photograph
from service_process import Running, program_of
from tinydefects.serve.answers import PathsAsked

# No schema can say which bytes are a photograph, nor which paths there are: 413, 415 and 422 are right answers, too.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 401, 403, 404, 413, 415, 422]
"""


@pytest.mark.slow
@pytest.mark.parametrize("key", [None, KEY])
def test_it_does_what_its_document_says_and_nothing_else(tmp_path, key):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    for path in PathsAsked.model_json_schema()["examples"][0]["paths"]:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(photograph())
    service = Running(*program_of(tmp_path, more=f"photographs=Path({str(tmp_path)!r}), most_photographs=4", key=key))
    asked = ["--checks", "all", "--max-examples", "10", "--seed", "1", "--generation-database", "none", "--no-color"]
    keyed = ["--header", f"Authorization: Bearer {key}"] if key else []
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
    finished = subprocess.run(
        [*command, f"{service.address}/openapi.json", *asked, *keyed], cwd=tmp_path, capture_output=True, text=True
    )
    service.end()
    service.close()
    assert finished.returncode == 0, finished.stdout
    assert "Tested: 12" in finished.stdout
