# Every target sets up what it needs: a virtual environment under .venv, and the package built and installed into it.
# What is already there and newer than its sources is kept.
#
#   make demo            quantize the digits model and print what came out
#   make test            run the whole test suite; ARGS="-k quantile -x" goes to pytest
#   make lint            ruff, mypy, clang-format
#   make bench           the kernels against their peers, the digits model against its rivals; BENCH=quick is shorter
#   make picture         draw the picture in README.md anew
#   make clean           remove the virtual environment and everything built

PYTHON ?= python3
ARGS ?=
BENCH ?= full

# What [build-system] in pyproject.toml requires, and what scikit-build-core adds where the system has none.
BUILD_TOOLS := "scikit-build-core>=1.1" "pybind11>=3.1" "cython>=3.3.1" "cython-cmake>=0.3" "cmake>=3.26" "ninja>=1.11"

VENV := .venv
BIN := $(VENV)/bin
DIGITS := examples/digits
SOURCES := pyproject.toml CMakeLists.txt README.md LICENSE \
           $(shell find cmake csrc src -type f ! -name '*.pyc' 2>/dev/null)
CXX_SOURCES := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.hpp' 2>/dev/null)

.PHONY: demo test lint bench picture clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	@mkdir -p build/demo
	$(BIN)/quantstats quantize $(DIGITS)/digits_cnn.onnx --data $(DIGITS)/calibration.npz \
	    --test-data $(DIGITS)/test.npz --labels label -o build/demo/digits_cnn_int8.onnx --overwrite $(ARGS)

test: $(VENV)/.installed-for-tests
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CXX_SOURCES)

# The report comes last, whatever the scripts find.
bench: $(VENV)/.installed-for-benchmarks
	$(BIN)/python -m benchmarks --no-report $(if $(filter quick,$(BENCH)),--quick) $(ARGS) || true
	-$(BIN)/python benchmarks/quantize_digits.py
	-$(BIN)/python benchmarks/int8_latency.py
	@$(BIN)/python -m benchmarks --report

picture: $(VENV)/.installed
	$(BIN)/python docs/images/draw_demo.py

clean:
	rm -rf $(VENV) build

# Without build isolation CMake and the compilers' include paths stay the same from build to build, so that only what
# changed is compiled again (build/ is kept). pip reinstalls a local directory whatever its version.
INSTALL := $(BIN)/python -m pip install --quiet --no-build-isolation

$(VENV)/.installed: $(VENV)/.build-tools $(SOURCES)
	@echo "building and installing into $(VENV)"
	$(INSTALL) ".[onnx,cli]"
	@touch $@

# More than the demo needs, so the demo need not install again.
$(VENV)/.installed-for-tests: $(VENV)/.build-tools $(SOURCES)
	@echo "building and installing into $(VENV), with what the tests need"
	$(INSTALL) ".[test]"
	@touch $(VENV)/.installed $@

$(VENV)/.installed-for-benchmarks: $(VENV)/.build-tools $(SOURCES)
	@echo "building and installing into $(VENV), with what the benchmarks need"
	$(INSTALL) ".[bench]"
	@touch $(VENV)/.installed $@

$(VENV)/.build-tools: $(VENV)/.created Makefile
	$(BIN)/python -m pip install --quiet $(BUILD_TOOLS)
	@touch $@

# Some systems ship Python without ensurepip; the pip that is there can then install itself into the environment.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "error: $(PYTHON) is not Python 3.10 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@command -v $(CXX) > /dev/null || \
	    { echo "error: no C++ compiler $(CXX); install g++ 10 or newer, or name one: make CXX=clang++" >&2; exit 1; }
	@if $(PYTHON) -c 'import ensurepip' 2> /dev/null; then \
	    $(PYTHON) -m venv --clear $(VENV); \
	else \
	    $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	    $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; \
	fi || { echo "error: $(PYTHON) cannot make a virtual environment; install its venv module" \
	    "(on Debian and Ubuntu the package python3-venv)" >&2; exit 1; }
	@touch $@
