# Every target does all of its own set-up in .venv; nothing needs to be activated.
# PYTHON=python3.12 selects the interpreter, VENV another folder for the environment.

VENV ?= .venv
RUN := $(VENV)/bin
# Python compiles what it imports; compiling whole packages takes longer than installing them.
INSTALL := $(RUN)/python -m pip --disable-pip-version-check --quiet install --no-compile
STAMPS := $(VENV)/stamps
# One BLAS thread for each of the two workers: more only wait for each other.
PYTEST := OPENBLAS_NUM_THREADS=1 $(RUN)/python -m pytest

SOURCES := $(shell find src cpp \( -name '*.py' -o -name '*.pyi' -o -name py.typed \
    -o -name '*.cpp' -o -name '*.hpp' -o -name '*.h' -o -name '*.parquet' -o -name '*.html' \
    -o -name '*.css' -o -name '*.md' -o -name '*.json' \)) \
    $(shell find src cpp -type d ! -name __pycache__)

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench study sanitize docs accessible clean

help:
	@echo "make demo    fit the sleep study: a summary here, a report in demo/sleepstudy.html"
	@echo "make test    lint and run the tests"
	@echo "make lint    format, types, floors"
	@echo "make study   simulation studies (minutes)"
	@echo "make sanitize tests of the core under the compiler's sanitizers (long)"
	@echo "make bench   time ranef beside its peers; writes docs/benchmarks.md"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make accessible  judge all pages and reports by axe-core (npm, Chromium; minutes)"
	@echo "make clean   remove .venv and everything that was built"

# --- set-up ---------------------------------------------------------------------------------

# An environment made by another interpreter than the one asked for is made anew.
ifdef PYTHON
ifneq ($(shell cat $(STAMPS)/venv 2>/dev/null),$(PYTHON))
.PHONY: $(STAMPS)/venv
endif
endif

$(STAMPS)/venv: tools/preflight.sh
	@python=$$(PYTHON="$(PYTHON)" sh tools/preflight.sh) && \
	    echo "making $(VENV) with $$python" && "$$python" -m venv --clear $(VENV)
	@mkdir -p $(STAMPS) && echo "$(PYTHON)" > $@

# One recipe for each set of packages: the name of the stamp is the name of the set.
# They are installed one after another, since pip does not share an environment with itself.
$(STAMPS)/runtime: | $(STAMPS)/build
$(STAMPS)/test: | $(STAMPS)/package
$(STAMPS)/lint: | $(STAMPS)/test
$(STAMPS)/docs: | $(STAMPS)/package
SETS := $(addprefix $(STAMPS)/,build runtime test lint docs)
$(SETS): $(STAMPS)/venv pyproject.toml tools/requirements.py
	@echo "installing: $(@F)"
	@$(RUN)/python tools/requirements.py $(@F) > $@.txt && $(INSTALL) -r $@.txt
	@touch $@

$(STAMPS)/package: $(STAMPS)/build $(STAMPS)/runtime CMakeLists.txt README.md LICENSE $(SOURCES)
	@echo "building ranef"
	@PATH="$(abspath $(RUN)):$$PATH" $(INSTALL) --no-deps --no-build-isolation \
	    --force-reinstall .
	@touch $@

# --- what people run --------------------------------------------------------------------------

demo: $(STAMPS)/package
	@mkdir -p demo
	@$(RUN)/python examples/demo.py demo

# The messages that no test provokes may become fewer, never more: lower MESSAGES where they do.
MESSAGES := 8

test: lint
	@rm -rf build/messages
	$(PYTEST) -n 2 --messages build/messages --doctest-modules --pyargs ./tests ranef
	@$(RUN)/python tools/messages.py --provoked build/messages --at-most $(MESSAGES) \
	    > build/messages.log || { tail -1 build/messages.log; exit 1; }
	@tail -1 build/messages.log

lint: $(STAMPS)/package $(STAMPS)/test $(STAMPS)/lint
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports --no-logo
	$(RUN)/clang-format --dry-run -Werror $(wildcard cpp/*.cpp cpp/*.hpp cpp/*/*.cpp cpp/*/*.hpp)

study: $(STAMPS)/package $(STAMPS)/test
	$(PYTEST) -m study tests

# Tests that reach every entry of the core, rightly and wrongly (test_core_safety), each kernel by
# one file or two: fits of whole packages take too long here. And those that share it between
# threads: without polars, which ends a process under ThreadSanitizer.
SANITIZED := $(addprefix tests/test_,core_safety engine laplace curvature quadrature \
    quadrature_nested families_density structures moments many_fixed questions_kept \
    sparse_tail iterative sem_numbers dynamic metagenomics_kernels gwas_genotypes \
    imaging_repeated imaging_group whitening squares)
SHARED := $(addprefix tests/test_,core_safety whitening squares)

sanitize: $(STAMPS)/package $(STAMPS)/test
	PYTHON=$(RUN)/python sh tools/sanitize.sh address,undefined $(addsuffix .py,$(SANITIZED))
	PYTHON=$(RUN)/python sh tools/sanitize.sh thread $(addsuffix .py,$(SHARED))

bench: $(STAMPS)/package
	@echo "installing: bench"
	@for package in $$($(RUN)/python tools/requirements.py bench); do \
	    $(INSTALL) "$$package" || echo "left out: $$package cannot be installed here"; done
	$(RUN)/python -m benchmarks
	$(RUN)/python -m benchmarks.imaging
	$(RUN)/python -m benchmarks.gwas
	$(RUN)/python -m benchmarks.gwas_paths build/gwas_paths
	$(RUN)/python -m benchmarks.metagenomics
	$(RUN)/python -m benchmarks.structural

docs: $(STAMPS)/package $(STAMPS)/test $(STAMPS)/docs
	$(RUN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# Node packages go into build; nothing of them is part of ranef.
build/axe/node_modules:
	npm install --silent --no-save --prefix build/axe axe-core@4 puppeteer-core@24

accessible: docs build/axe/node_modules
	$(RUN)/python tools/reports.py build/reports
	AXE=build/axe node tools/accessibility.js docs/_build/html build/reports

clean:
	rm -rf .venv build dist demo docs/_build .mypy_cache .ruff_cache .pytest_cache \
	    .import_linter_cache .hypothesis
