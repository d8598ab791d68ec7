# make demo: set up, then dream, plan and compare (runs/demo/). make test: the tests. make check: lint and types, too.
VENV ?= .venv
BIN := $(VENV)/bin
# Waiting threads that spin slow everything down on small shared machines.
export OMP_WAIT_POLICY = passive

.PHONY: setup demo test lint types check docs mutants fuzz kills soak mamba clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=23"
	# A plain "pip install torch" brings gigabytes of CUDA: take the pinned build first (from an index of CPU builds, if
	# TORCH_INDEX names one).
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,play]"
	touch $@

demo: setup
	$(BIN)/lssvwm demo --out runs/demo

test: setup $(if $(filter Linux,$(shell uname -s)),mamba)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: setup
	$(BIN)/mypy

check: lint types test

# The documentation site, strictly, into site/.
docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

# Do the tests notice faults? About an hour on two cores; not part of CI.
mutants: setup
	$(BIN)/python benchmarks/mutants.py

# Ten thousand malformed calls, options and files; a sample of them is part of the tests.
fuzz: setup
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile=fuzz --hypothesis-seed=$(or $(SEED),0)

# Commands killed at random moments, and a million steps: some ten minutes, and two hours.
kills: setup
	$(BIN)/python benchmarks/kills.py

soak: setup
	$(BIN)/python benchmarks/soak.py
	$(BIN)/python benchmarks/soak.py --simulator LSSVWM/ObjectRooms-v0 --worlds 1 --steps 100000 --endless

# Mamba-2's Triton kernels: used on CUDA, and tested without in Triton's interpreter. CONTRIBUTING.md says why so.
mamba: $(VENV)/.mamba

$(VENV)/.mamba: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools wheel
	MAMBA_SKIP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE $(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--no-build-isolation --no-deps --no-warn-conflicts mamba-ssm triton einops
	touch $@

clean:
	rm -rf $(VENV) runs
