# make demo    installs what is needed into .venv and interpolates the sample pair into out.png
# make test    installs what the tests need, too, and runs them
# make setup   only installs
# make lint    checks the style

PYTHON ?= python3
PIP := .venv/bin/python -m pip install --disable-pip-version-check

.PHONY: demo test setup lint

demo: setup
	.venv/bin/python run.py

test: .venv/tested
	.venv/bin/python -m pytest

lint: .venv/tested
	.venv/bin/ruff check
	.venv/bin/ruff format --check

setup: .venv/installed

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(PIP) -r requirements.txt
	touch $@

.venv/tested: .venv/installed requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	touch $@
