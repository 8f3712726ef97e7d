# Two commands do everything: `make demo` deblurs a bundled image, `make test` checks the project.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := all,bioimage,distributed,heif,metrics,raw,remote,tensorboard

# Python compiles a module when it is first imported, and keeps that for all the processes after it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint types docs pytest test-slow test-napari wheel screenshots clean

demo: $(READY)
	$(BIN)/swintormer demo --out demo

test: lint types docs pytest wheel

# The environment is made again when the dependencies change.
$(READY): pyproject.toml constraints.txt
	.ci/system-libraries
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[$(EXTRAS)]' --group dev
	# with their dependencies they would bring a torchvision that must fit torch to the day
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --no-deps spandrel spandrel_extra_arches
	touch $@

# Formatting, lint, manifest, workflows: the hooks that run before a commit.
lint: $(READY)
	$(BIN)/pre-commit run --all-files

types: $(READY)
	$(BIN)/mypy

# The documentation, in build/site. A broken link or an unknown name in it is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# All tests but those for a GPU. A slow test runs when files that it covers changed since it last passed.
pytest: $(READY)
	$(BIN)/pytest

# All slow tests. Those that pass are noted in tests/slow_passed.json: commit it.
test-slow: $(READY)
	$(BIN)/pytest -m "slow and not gpu" --slow all

# The plugin with another napari or the other Qt binding: make test-napari NAPARI=0.9.0 QT=pyside6
NAPARI ?= 0.6.0
QT ?= pyqt6
test-napari: $(READY)
	.ci/check-napari $(BIN) $(NAPARI) $(QT)

# What a user gets: the wheel, installed away from the source tree, seen by npe2, run once.
wheel: $(READY)
	.ci/check-wheel $(BIN)

screenshots: $(READY)
	$(BIN)/python docs/tour.py

clean:
	rm -rf $(VENV) .venv-napari build dist demo
