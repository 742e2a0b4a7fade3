# make demo   set up and run the main job on drawn images: no download of data or weights
# make test   set up and run the tests
# make check  lint, types and tests

PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint types check clean

demo: .venv/.run
	$(BIN)/tinydefects demo --out demo

test: .venv/.develop
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

lint: .venv/.develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.develop
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf .venv demo

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.run: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[detector]'
	touch $@

.venv/.develop: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[detector,codecs,dev]'
	touch $@
