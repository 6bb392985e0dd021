# make demo    installs what is needed into .venv and interpolates the sample pair into out.png
# make test    installs what the tests need, too, and runs them
# make setup   only installs
# make lint    checks the style and the types
#
# PYTHON=python3.12 chooses another Python than python3 (3.11 or newer). TORCH_INDEX=URL takes PyTorch from another
# index than PyPI: https://download.pytorch.org/whl/cpu has the small build that knows no GPU.

PYTHON ?= python3
TORCH_INDEX ?=
PIP := .venv/bin/python -m pip install --disable-pip-version-check

.PHONY: demo test setup lint

demo: setup
	.venv/bin/python run.py

test: .venv/tested
	.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal

lint: .venv/tested
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

setup: .venv/installed

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) $(shell grep ^torch== requirements.txt))
	$(PIP) -r requirements.txt
	touch $@

.venv/tested: .venv/installed requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	touch $@
