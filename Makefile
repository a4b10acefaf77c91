# make book   the site, in _build/html/index.html       (DATA=DIR runs the chapters on your own event log,
#                                                        PROFILE=full at the paper's size, JOBS=N chapters at a time,
#                                                        REPOSITORY=https://HOST/OWNER/NAME for buttons that launch them)
# make book-all   the site with the whole book to take along: PDF, EPUB, ZIP, in _build/html/downloads
# make test   style, import contracts, types and tests; make lint, types, unit: one of them (TESTS=tests/book)
# make check-book   what the executed chapters and the built site say and show
# make lab    the chapters as readers see them, in JupyterLab: what is saved there is written to book/*.py  (executes
#             them once, for the numbers in their texts; LAB='--no-browser' and other options of JupyterLab)
# make course          the course for a class: student and solution notebooks, assignments, in _build/course  (executes
#             the chapters first, for the numbers in their texts)
# make check-course    nbgrader grades the course: the solutions get full marks, the stubs none
# make check-site   the built site with axe, html-validate and a phone's browser; the files of the whole book
# make check-notebooks   every downloaded notebook runs where only the wheel is installed
# make check-rebuild   two builds from nothing are byte-identical
# make check-machines  tests and chapters with other instructions of the processor, without a compiler, with one thread
#             and two, for five seeds; an hour or more
# make bench  speed of training, side by side with other libraries: results/speed/peers.json  (DATA=DIR adds an epoch
#             of that log; BENCH='--only 32-50-full' and other options of benchmarks/bench.py)
# make spark  what preparing data with Spark and its tests need besides, which is large; Java 17 must be there already
# make clean  remove what was built (the environment in .venv stays)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: book book-all notebooks-branch test lint types unit lab course check-course check-book check-site \
  check-notebooks check-rebuild check-machines bench spark clean

PYTHON ?= python3
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
PROFILE ?= fast
DATA ?=
BENCH ?=
LAB ?=
TESTS ?=
REPOSITORY ?=
# Threads that wait for one another do so without spinning long: beside other work they would take each other's time.
export GOMP_SPINCOUNT ?= 1000
# Kernels, tools and tests are hundreds of processes that import the same modules: these are compiled once.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
PY := $(VENV)/bin/python
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
# The name holds a checksum: the environment is brought up to date when one of these files changes, or this folder's
# name: an environment that was copied or moved along still runs the library of the folder where it was made.
INSTALLED := $(VENV)/.installed-$(shell { pwd -P; cat pyproject.toml constraints.txt; } | cksum | cut -d ' ' -f 1)
# The libraries that the package is compared with contradict its dependencies and each other's.
PEERS := _build/bench-venv
# Errors alone are told. What is never imported is never compiled.
INSTALL := -m pip install -qq --no-compile

EXECUTE = $(PY) -m tools.execute --profile "$(PROFILE)" --jobs "$(JOBS)" $(if $(DATA),--data "$(DATA)")

book: $(INSTALLED)
	$(EXECUTE)
	$(PY) -m tools.build --repository "$(REPOSITORY)"

book-all: $(INSTALLED)
	$(EXECUTE)
	$(PY) -m tools.whole_book --repository "$(REPOSITORY)"

notebooks-branch: book-all
	$(PY) -m tools.notebooks_branch --repository "$(REPOSITORY)"

test: lint types unit

lint: $(INSTALLED)
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	PYTHONPATH=book $(PY) $(VENV)/bin/lint-imports --no-cache --no-logo

types: $(INSTALLED)
	$(PY) -m mypy

unit: $(INSTALLED)
	$(PY) -m pytest -q -n "$(JOBS)" --dist worksteal $(TESTS)

lab: $(INSTALLED)
	$(PY) -m tools.lab -- $(LAB)

course: $(INSTALLED)
	$(EXECUTE)
	$(PY) -m tools.course

check-course: $(INSTALLED)
	$(EXECUTE)
	$(PY) -m tools.check_course

check-book: book
	$(PY) -m pytest -q -m "book and not site" -n "$(JOBS)" --dist worksteal tests/book

check-site: book-all
	$(PY) -m pytest -q -m site -n "$(JOBS)" tests/book

check-notebooks: book
	$(PY) -m tools.check_notebooks --jobs "$(JOBS)"

check-rebuild: $(INSTALLED)
	$(PY) -m tools.check_rebuild --jobs "$(JOBS)"

check-machines: $(INSTALLED)
	$(PY) -m tools.check_machines --jobs "$(JOBS)"

bench: $(INSTALLED) $(PEERS)/.installed
	$(PY) -m benchmarks.bench --out results/speed/peers.json --peers-python $(PEERS)/bin/python \
	  $(if $(DATA),--data "$(DATA)") $(BENCH)

spark: $(INSTALLED)
	$(PY) $(INSTALL) -c constraints.txt -e ".[data,spark]"

clean:
	rm -rf _build

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but the book needs Python 3.11 to 3.14: make PYTHON=python3.12" >&2; exit 1; }
	@made=$$(sed -n -e 's/^command = .* -m venv //' -e 's/^\(--[^ ]* \)*//' -e '\,^/,p' $(VENV)/pyvenv.cfg 2>/dev/null) || true; \
	if [ -e $(VENV) ] && [ "$$made" != "$$(pwd -P)/$(VENV)" ]; then \
	  echo "$(VENV) was made for another folder ($${made:-unknown}) and is made anew"; \
	  if [ -L $(VENV) ]; then rm $(VENV); fi; $(PYTHON) -m venv --clear $(VENV); \
	else $(PYTHON) -m venv $(VENV); fi
	rm -f $(VENV)/.installed-*
	$(PY) $(INSTALL) -c constraints.txt pip
	$(PY) $(INSTALL) -c constraints.txt --retries 0 --no-deps --extra-index-url $(TORCH_INDEX) torch==$(TORCH)
	$(PY) $(INSTALL) -c constraints.txt -e ".[test]"
	touch $@

$(PEERS)/.installed: benchmarks/peers/requirements.txt
	rm -rf $(PEERS)
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python $(INSTALL) --no-deps --extra-index-url $(TORCH_INDEX) torch==$(TORCH)
	$(PEERS)/bin/python $(INSTALL) --no-deps -r $<
	touch $@
