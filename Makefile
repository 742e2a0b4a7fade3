# make demo      set up and run the main job on drawn images: no download of data or weights
# make test      set up and run the unit tests: no browser, none that takes seconds
# make test-all  set up and run all tests
# make test-anomalib  set up .venv-anomalib and run the tests of anomalib's models there, which the others skip
# make check     lint, types and all tests
# make docs      the documentation site, in site/: open site/index.html
# make dist      what is published, in dist/

PYTHON ?= python3
BIN := .venv/bin
ANOMALIB := .venv-anomalib
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export NO_MKDOCS_2_WARNING := 1

.PHONY: demo test test-all test-anomalib lint types check docs dist clean

demo: .venv/.run
	$(BIN)/tinydefects demo --out demo

test: .venv/.develop
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m 'not slow and not browser'

test-all: .venv/.develop
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

test-anomalib: $(ANOMALIB)/.test
	OMP_NUM_THREADS=1 $(ANOMALIB)/bin/pytest -n 2 tests/test_anomalib_method.py

lint: .venv/.develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: .venv/.develop
	$(BIN)/mypy

check: lint types test-all

docs: .venv/.docs
	$(BIN)/mkdocs build --strict

dist: .venv/.develop
	$(BIN)/python -m build --outdir dist

clean:
	rm -rf .venv $(ANOMALIB) demo site dist

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.run: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[detector]'
	touch $@

.venv/.develop: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[detector,codecs,dev]'
	touch $@

.venv/.docs: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# Apart from the rest: what the library brings must change nothing that the other tests see.
$(ANOMALIB)/.test: pyproject.toml constraints.txt
	test -x $(ANOMALIB)/bin/python || $(PYTHON) -m venv $(ANOMALIB)
	$(ANOMALIB)/bin/pip install --quiet --constraint constraints.txt --editable '.[anomalib]' pytest pytest-xdist hypothesis
	touch $@
