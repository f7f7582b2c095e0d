# Everything a person or CI does here: install, demo, test, serve, lint. No root, compiler, Docker, Postgres, Redis or GPU is needed.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install demo tour docs answers test test-slow chaos fuzz lint format serve constraints clean

VENV := .venv
BIN := $(VENV)/bin
DATA ?= data
PORT ?= 8000
TORCH_PAIR := torch==2.13.0 torchvision==0.28.0
# The install is redone when what it is made from changes, and not otherwise.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)

export UV_HTTP_TIMEOUT ?= 600
# Many short processes import torch here: what is compiled once must stay compiled.
unexport PYTHONDONTWRITEBYTECODE

help:  ## list what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP)  ## put everything into .venv (Python 3.11 or 3.12 must be there)

$(STAMP): pyproject.toml constraints.txt .ci/make-venv
	.ci/make-venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python -c constraints.txt $(TORCH_PAIR) -e '.[embedded,dev]'
	rm -f $(VENV)/.installed-*
	touch $@

demo: install  ## repair the example model through the whole service and show what was gained (demo-out/)
	$(BIN)/python examples/demo.py

tour: install  ## what else there is: two tampered models, injected errors, an analysis (minutes; tour-out/)
	$(BIN)/python examples/tour.py

serve: install  ## start the service: make serve [DATA=data] [PORT=8000]
	$(BIN)/modeconn serve --data $(DATA) --port $(PORT)

test: lint  ## lint, then every test, against the real Postgres and Redis that the tests start
	@command -v chromium >/dev/null || echo 'There is no chromium (apt-get install chromium): the web page is not tried.'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --ignore tests/chaos
	$(BIN)/python -m pytest tests/chaos

docs: install  ## build the documentation (build/docs/index.html); a link that leads nowhere is an error
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

answers: install  ## record real answers for the API reference anew (docs/answers.json; a minute)
	$(BIN)/python docs/record.py

test-slow: install  ## the long battery: queries on a million job rows
	$(BIN)/python -m pytest -m slow --timeout 3600

chaos: install  ## every fault in its long form (tests/scale.py): hours
	$(BIN)/python -m pytest -m chaos --timeout 7200 -rP

fuzz: install  ## every crafted and millions of mutated uploads, hostile bodies (tests/scale.py): hours
	$(BIN)/python -m pytest -m fuzz --timeout 86400 -rP

lint: install  ## style, types and the import law
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: install  ## rewrite the files in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: install  ## choose new versions for constraints.txt (for every supported Python, no addresses)
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate --no-header \
	  --extra embedded --extra dev -c <(printf '%s\n' $(TORCH_PAIR)) pyproject.toml <(echo uv) -o constraints.txt

clean:  ## remove what was built, installed or written here
	rm -rf $(VENV) demo-out tour-out build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
