# Every verb makes the virtual environment it needs; Python, make and a C compiler are enough.
#   make demo      a gradient, a drawn graph, a check       make bench    asv on this commit, as html
#   make test      the whole test suite                     make docs     the documentation, as html
#   make check     lint, types, strict C, layers, tables    make wheel    sdist and tested wheels
#   make asan      everything under ASan and UBSan          make develop  an editable build in .venv-dev
#   make format    what ruff can mend by itself             make clean    as after the clone
#   make fuzz      a million damaged programs, sanitized    make tsan     programs in threads, under TSan
# Another Python:  make PYTHON=/path/to/python3.12 test     (has its own .venv-3.12)

PYTHON ?= python3
VENV ?= .venv$(if $(filter command,$(origin PYTHON)),-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
PYTEST_ARGS ?= -n auto
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check

C_SOURCES := $(wildcard csrc/*)
SOURCES := $(C_SOURCES) $(shell find src -type f \( -name '*.py*' -o -name '*.px*' -o -name py.typed \) ! -path '*/__pycache__/*')
C_TESTS := $(patsubst tests/c/%.c,%,$(wildcard tests/c/*.c))
C_STRICT := -std=c11 -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Werror -O2
C_SANITIZE := -std=c11 -fsanitize=address,undefined -fno-sanitize-recover=all -g -O1 -DFAD_DEBUG -DFAD_SANITIZE
C_TSAN := -std=c11 -fsanitize=thread -g -O1 -DFAD_DEBUG -DFAD_SANITIZE

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: help demo test check format asan asan-tests tsan fuzz bench docs wheel develop clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.extra-graph
	$(PY) examples/demo.py

test: $(VENV)/.extra-test
	$(PY) -m pytest $(PYTEST_ARGS)

check: $(VENV)/.extra-check $(C_TESTS:%=build/c-strict/%)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) tools/check_table.py csrc/*.def
	$(PY) tests/test_layers.py
	FASTAD_WERROR=1 $(PY) setup.py --quiet build_clib build_ext
	$(PY) tools/check_globals.py build/werror/*/libfad.a
	set -e; for name in $(C_TESTS); do build/c-strict/$$name; done

format: $(VENV)/.extra-check
	$(PY) -m ruff check --fix-only --quiet .
	$(PY) -m ruff format .

asan: $(C_TESTS:%=build/c-asan/%)
	set -e; for name in $(C_TESTS); do ASAN_OPTIONS=detect_leaks=1 build/c-asan/$$name; done
	FASTAD_DEBUG=1 FASTAD_SANITIZE=address,undefined $(MAKE) VENV=$(VENV)-asan asan-tests

# setarch: some kernels lay memory out in ways that ThreadSanitizer does not know.
tsan: build/c-tsan/test_threads build/c-tsan/test_bands
	set -e; for test in $^; do TSAN_OPTIONS=halt_on_error=1 setarch -R $$test; done

# Python itself is not instrumented: the sanitizer comes first in the process, and Python's own
# allocator, which would hide our heap blocks from it, is off. test_new_row builds a copy without
# sanitizers, wherever it runs: `make test` is enough for it.
asan-tests: $(VENV)/.extra-test
	$(PY) tools/sanitizer_canary.py
	$(PY) tools/sanitized.py -m pytest $(PYTEST_ARGS) --ignore tests/test_new_row.py

# Saved programs with changed bytes: another seed, other inputs.
FUZZ_INPUTS ?= 1000000
FUZZ_SEED ?= 1
fuzz: build/c-asan/fuzz_program
	ASAN_OPTIONS=detect_leaks=1 $< $(FUZZ_INPUTS) $(FUZZ_SEED) reasons

bench: $(VENV)/.extra-bench
	cd benchmarks && set -e; asv="../$(PY) -m asv"; commit=$$(git rev-parse HEAD); \
	    $$asv machine --yes; \
	    $$asv run --environment existing:../$(PY) --set-commit-hash $$commit; \
	    $$asv publish
	@echo "open benchmarks/.asv/html/index.html"

docs: $(VENV)/.extra-docs
	$(PY) -m sphinx -W --keep-going -b html docs build/docs

wheel: $(VENV)/.extra-wheel
	$(PY) tools/wheel.py

# The first time an editable install; afterwards only what changed is compiled again, in place.
develop: .venv-dev/.editable
	rm -f build/*/temp*/libfad.a
	.venv-dev/bin/python setup.py --quiet build_clib build_ext --inplace

.venv-dev/.editable: pyproject.toml
	test -x .venv-dev/bin/python || $(PYTHON) -m venv .venv-dev
	.venv-dev/bin/python -m pip install --quiet 'setuptools>=77' 'cython>=3.1' 'numpy>=2'
	.venv-dev/bin/python -m pip install --quiet --no-build-isolation --editable '.[test,check]'
	touch $@

clean:
	rm -rf build dist .venv .venv-* benchmarks/.asv .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find src -name '*.so' -delete

# --- environments --------------------------------------------------------------------------------
# A stamp for the installed package, which follows the sources, and one for each set of extras.

$(PY):
	$(PYTHON) -m venv $(VENV)

# A module or C file that was renamed must not live on from the last build.
$(VENV)/.fastad: $(SOURCES) pyproject.toml setup.py MANIFEST.in | $(PY)
	test ! -d build || find build \( -name 'libfad.a' -o -path '*/lib*' -name '*.py*' \) -delete
	$(PIP) .
	touch $@

$(VENV)/.extra-%: pyproject.toml $(VENV)/.fastad
	test $@ -nt pyproject.toml || $(PIP) 'fastad[$*]'
	touch $@

# --- C programs without Python -------------------------------------------------------------------
# The library once in each way, linked into every program of tests/c.

CORE := $(patsubst csrc/%.c,%.o,$(wildcard csrc/*.c))
HEADERS := $(wildcard csrc/*.h csrc/*.def)

define c_programs
build/$(1)/core/%.o: csrc/%.c $(HEADERS)
	@mkdir -p $$(@D)
	$$(CC) $(2) -pthread -Icsrc -c $$< -o $$@

build/$(1)/%: tests/c/%.c $(wildcard tests/c/*.h) $(CORE:%=build/$(1)/core/%)
	$$(CC) $(2) -pthread -Icsrc $$< $(CORE:%=build/$(1)/core/%) -lm -o $$@
endef
$(eval $(call c_programs,c-strict,$(C_STRICT)))
$(eval $(call c_programs,c-asan,$(C_SANITIZE)))
$(eval $(call c_programs,c-tsan,$(C_TSAN)))
