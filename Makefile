# `make serve` and `make test` need Python 3.11 or newer (with its headers), a C++ compiler and make. All the
# rest (cmake, ninja, Cython, test tools) is pinned in pyproject.toml and goes into .venv.

VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 8080
PIP_VERSION := 26.3
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)

SOURCES := CMakeLists.txt pyproject.toml README.md LICENSE NOTICE vendor/llama.cpp/pin.toml vendor/llama.cpp/fetch.py \
  $(shell find cmake csrc pyllama -type f ! -name '*.pyc' 2>/dev/null)
PYTHON_CODE := $(wildcard pyllama tests bench examples docs packaging) vendor/llama.cpp/fetch.py
CXX_CODE = $(shell find csrc tests/csrc -name '*.h' -o -name '*.cpp' 2>/dev/null)
CYTHON_CODE = $(shell find pyllama -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi')

.PHONY: help serve build develop test test-csrc test-python test-types conformance docs fuzz fuzz-http fuzz-asan fuzz-http-asan soak-asan soak-tsan test-csrc-asan lint format bench bench-binding bench-steering bench-replay clean
.DELETE_ON_ERROR:

help:
	@echo 'make serve    build, and serve the bundled model on http://$(HOST):$(PORT) (PORT=8081 for another port)'
	@echo 'make test     build, and run every test, type check and lint'
	@echo 'make conformance  llama-server'\''s own test suite against pyllama-server, where it is at hand ($(CONFORMANCE))'
	@echo 'make build    build and install into $(VENV)'
	@echo 'make develop  the same, editable: Python files are used from here'
	@echo 'make fuzz     random calls of the low-level API (FUZZ_EXAMPLES=$(FUZZ_EXAMPLES)); make fuzz-asan under AddressSanitizer'
	@echo 'make fuzz-http  random requests of every endpoint (HTTP_EXAMPLES=$(HTTP_EXAMPLES) each); make fuzz-http-asan likewise'
	@echo 'make soak-asan  the engine under random load and AddressSanitizer, SOAK_SECONDS=$(SOAK_SECONDS) long; make soak-tsan likewise'
	@echo 'make test-csrc-asan  the C++ tests under AddressSanitizer: half an hour'
	@echo 'make lint     ruff, mypy, cython-lint, clang-format;  make format applies what can be applied'
	@echo 'make docs     write what is generated in docs/'
	@echo 'make bench    compare with llama-server, built from the same tree; a page in bench/report (BENCH_ARGS=--help for more)'
	@echo 'make bench-binding  compare a decode loop in Python with llama-bench'
	@echo 'make bench-replay  measure streams that outlive their connection: readers, reattaching, keeping'
	@echo 'make bench-steering  compare ending the reasoning of a running generation with llama-server'
	@echo 'make clean    remove what was built; $(VENV) and the fetched llama.cpp stay'

# --- set-up ---

$(BIN)/python:
	@command -v "$${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
	  { echo 'make: no C++ compiler found: install g++ or clang++, or set CXX' >&2; exit 1; }
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	  if "$$python" -c 'import ensurepip, os, sys, sysconfig, venv; \
	    sys.exit(sys.version_info < (3, 11) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
	    2>/dev/null; then exec "$$python" -m venv $(VENV); fi; \
	done; echo 'make: no Python 3.11 or newer with venv and headers found: install one, or say which with PYTHON=...' >&2; \
	exit 1

$(VENV)/.tools: pyproject.toml Makefile | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip==$(PIP_VERSION)
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

# The package in .venv is the installed one, so that tests see what users get.
$(VENV)/.built: $(VENV)/.tools $(SOURCES)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pip install --verbose --no-build-isolation \
	  -C cmake.define.PYLLAMA_BUILD_TESTS=ON .
	@touch $@

build: $(VENV)/.built

develop: $(VENV)/.tools
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pip install --verbose --no-build-isolation --editable .
	@rm -f $(VENV)/.built

# --- use ---

# Asked before the build, which takes minutes, and again by the server itself.
define PORT_CHECK
import socket, sys
with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("$(HOST)", $(PORT)))
    except OSError as error:
        sys.exit(f"make: cannot listen on $(HOST):$(PORT) ({error.strerror.lower()}); try: make serve PORT={$(PORT) + 1}")
endef

export PORT_CHECK

serve: | $(BIN)/python
	@$(BIN)/python -c "$$PORT_CHECK"
	@$(MAKE) --no-print-directory build
	@exec $(BIN)/pyllama serve --host $(HOST) --port $(PORT)

# --- checks ---

test: build lint test-types test-csrc test-python

test-csrc: build
	@for dir in build/cp311-abi3-*; do \
	  PATH="$(CURDIR)/$(BIN):$$PATH" && cmake --build "$$dir" --target pyllama-tests && \
	  ctest --test-dir "$$dir" --output-on-failure || exit 1; \
	done

test-python: build
	$(BIN)/pytest

test-types: build
	$(BIN)/stubtest --ignore-unused-allowlist pyllama._core._llama $(addprefix --allowlist ,$(wildcard tests/typing/*allowlist*))

# Takes some minutes: five for the whole suite on two cores. CONFORMANCE_ARGS="--files test_basic" runs a part.
CONFORMANCE ?= ../shared/conformance

conformance: build
	@$(BIN)/python tests/conformance/conformance.py --suite "$(CONFORMANCE)" --work build/conformance \
	  --server "$(BIN)/pyllama-server --media-urls 2" $(CONFORMANCE_ARGS)

# Random calls in child processes: none of them may end one. Another FUZZ_SEED makes others.
FUZZ_EXAMPLES ?= 20000
FUZZ_SEED ?= 20

fuzz: build
	PYLLAMA_FUZZ_SEED=$(FUZZ_SEED) PYLLAMA_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest --timeout 7200 tests/core/test_fuzz.py

# Requests that fit the OpenAPI document, and those that nearly do: no 5xx, no status or body that it does not name.
HTTP_EXAMPLES ?= 2000

fuzz-http: build
	PYLLAMA_FUZZ_SEED=$(FUZZ_SEED) PYLLAMA_HTTP_EXAMPLES=$(HTTP_EXAMPLES) $(BIN)/pytest --timeout 7200 tests/robustness/test_openapi.py

# The same with a module whose own code and llama.cpp's are instrumented. Leaks are CPython's, and a failed allocation
# is an error that the bindings report.
ASAN := build/asan-site

$(ASAN)/.built: $(VENV)/.tools $(SOURCES)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pip install --no-build-isolation --no-deps --upgrade \
	  --target $(ASAN) -C build-dir=build/asan-python -C install.strip=false \
	  -C cmake.define.PYLLAMA_SANITIZE=address,undefined \
	  -C cmake.define.PYLLAMA_SANITIZE_LLAMA=address .
	@touch $@

UNDER_ASAN = LD_PRELOAD="$$($${CXX:-g++} -print-file-name=libasan.so) $$($${CXX:-g++} -print-file-name=libstdc++.so)" \
  ASAN_OPTIONS=detect_leaks=0,allocator_may_return_null=1 PYTHONMALLOC=malloc PYTHONPATH=$(ASAN)

fuzz-asan: $(ASAN)/.built
	$(UNDER_ASAN) PYLLAMA_FUZZ_SEED=$(FUZZ_SEED) PYLLAMA_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest -p no:cacheprovider --timeout 7200 \
	  tests/core/test_fuzz.py

fuzz-http-asan: $(ASAN)/.built
	$(UNDER_ASAN) PYLLAMA_FUZZ_SEED=$(FUZZ_SEED) PYLLAMA_HTTP_EXAMPLES=$(HTTP_EXAMPLES) $(BIN)/pytest -p no:cacheprovider --timeout 7200 \
	  tests/robustness/test_openapi.py tests/robustness/test_random_bodies.py

test-csrc-asan: $(VENV)/.tools
	PATH="$(CURDIR)/$(BIN):$$PATH" && cmake --preset asan && cmake --build --preset asan --target pyllama-tests
	ASAN_OPTIONS=detect_leaks=1 $(BIN)/ctest --test-dir build/asan --output-on-failure

# The engine under random load, llama.cpp's own logic instrumented as well.
SOAK_SECONDS ?= 600
SOAK_SEED ?= 1

soak-asan soak-tsan: soak-%: $(VENV)/.tools
	PATH="$(CURDIR)/$(BIN):$$PATH" && cmake --preset $* && cmake --build --preset $* --target test_random_load
	ASAN_OPTIONS=detect_leaks=1 TSAN_OPTIONS=halt_on_error=1 PYLLAMA_LOAD_SECONDS=$(SOAK_SECONDS) PYLLAMA_LOAD_SEED=$(SOAK_SEED) \
	  build/$*/tests/csrc/test_random_load

lint: build
	$(BIN)/ruff check $(PYTHON_CODE)
	$(BIN)/ruff format --check $(PYTHON_CODE)
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint $(CYTHON_CODE)
	$(BIN)/clang-format --dry-run -Werror $(CXX_CODE)

format: $(VENV)/.tools
	$(BIN)/ruff check --fix $(PYTHON_CODE)
	$(BIN)/ruff format $(PYTHON_CODE)
	$(BIN)/clang-format -i $(CXX_CODE)

docs: build
	$(BIN)/python -P docs/generate/flags.py > docs/flags.md

bench: build
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m bench.compare $(BENCH_ARGS)

bench-binding: build
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m bench.binding $(BENCH_ARGS)

bench-replay: build
	@for dir in build/cp311-abi3-*; do \
	  PATH="$(CURDIR)/$(BIN):$$PATH" && cmake --build "$$dir" --target bench_ring && \
	  $(BIN)/python -m bench.replay --ring "$$dir/tests/csrc/bench_ring" $(BENCH_ARGS) || exit 1; \
	done

bench-steering: build
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m bench.steering $(BENCH_ARGS)

clean:
	rm -rf build dist $(VENV)/.built
