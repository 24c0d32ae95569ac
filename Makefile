# make help lists the targets. Variables: PYTHON, REQUIREMENTS (requirements/tpu.txt on a TPU,
# interop.txt with what parity tests compare with), SEED, WORKDIR, PYTEST_FLAGS, PYTEST_WORKERS,
# LOCK_FLAGS (--upgrade), BENCH (arguments of bench/compare.py).

SHELL := /bin/bash
PYTHON ?= python3
REQUIREMENTS ?= requirements/cpu.txt
SEED ?= 0
WORKDIR ?= runs/quickstart$(if $(filter-out 0,$(SEED)),_seed$(SEED))
PYTEST_FLAGS ?=
PYTEST_WORKERS ?= 2
LOCK_FLAGS ?=
BENCH ?= S M

# These lock files have no plug-in for an accelerator: one that is here is left idle on purpose.
ifneq ($(filter requirements/cpu.txt requirements/interop.txt,$(REQUIREMENTS)),)
export JAX_PLATFORMS ?= cpu
endif

VENV := .venv
BIN := $(VENV)/bin
R1_JAX := $(BIN)/python -m r1_jax
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" --quiet $(LOCK_FLAGS)

.PHONY: help quickstart test lint base env lock ci-deps plan-deps plan-test pod-test bench \
	bench-peers bench-accelerator peers
.DELETE_ON_ERROR:

help:
	@echo 'make quickstart   environment, R1-Zero run on Countdown, report (SEED=0, WORKDIR=runs/quickstart)'
	@echo 'make test         environment, test suite (PYTEST_FLAGS="-m slow" for others)'
	@echo 'make lint         environment, ruff, pyright, shellcheck'
	@echo 'make base         environment, rebuilds the base model from nothing'
	@echo 'make env          environment in .venv from the locked requirements'
	@echo 'make lock         resolves setup.py into requirements/ (LOCK_FLAGS=--upgrade for newer versions)'
	@echo 'make plan-deps    libtpu, the compiler of `r1_jax plan`, as locked for TPUs'
	@echo 'make plan-test    a small plan, so that the path cannot rot'
	@echo 'make bench        times GRPO steps and rollouts of ours (BENCH="S M --steps=5")'
	@echo 'make bench-peers  the same beside TRL, transformers and Tunix, in environments of their own'
	@echo 'make bench-accelerator  1.5B on one GPU or TPU, beside what the device can do (BENCH="--tiny")'
	@echo 'make pod-test     programs of 2 and 4 processes against the same of one, killed and resumed'
	@echo 'make ci-deps      what CI needs besides: chromium, bubblewrap'

quickstart: env
	$(R1_JAX) doctor
	$(R1_JAX) train --config=configs/r1_zero_countdown.py --config.seed=$(SEED) --workdir=$(WORKDIR)
	$(R1_JAX) report $(WORKDIR)

test: env
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS)

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/shellcheck -x launch/*.sh .ci/run

base: env
	$(R1_JAX) pretrain --config=configs/base_countdown.py --workdir=runs/base

env: $(VENV)/installed

# The stamp is younger than everything it was made of, so that a second call costs nothing; its name in
# the recipe is kept in a file, so that another REQUIREMENTS installs again.
$(VENV)/installed: $(VENV)/uv_installed $(VENV)/requirements_name $(REQUIREMENTS) setup.py
	$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r $(REQUIREMENTS)
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
ifeq ($(REQUIREMENTS),requirements/interop.txt)
# torch alone is missing yet. It is in no lock file: whether a machine gets the build for the CPU or
# that for CUDA, several GB with all it needs, is for its package index to say, and pip asks that.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[interop]'
endif
	@touch $@

$(VENV)/requirements_name: FORCE | $(VENV)/uv_installed
	@echo '$(REQUIREMENTS)' | cmp -s - $@ || echo '$(REQUIREMENTS)' > $@

$(VENV)/uv_installed: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1); r1_jax needs Python 3.11 or newer:" \
	    "install one and call make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "error: $(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.PHONY: FORCE
FORCE:

lock: $(VENV)/uv_installed
	echo 'uv>=0.13.9' | $(COMPILE) --output-file requirements/uv.txt -
	$(COMPILE) --extra dev --output-file requirements/cpu.txt setup.py
	$(COMPILE) --extra dev --extra tpu --output-file requirements/tpu.txt setup.py
	$(COMPILE) --extra dev --extra interop --override <(echo 'torch; python_version < "3"') \
	  --output-file requirements/interop.txt setup.py

ci-deps:
	@{ command -v chromium && command -v bwrap; } >/dev/null || { \
	  sudo=; if [ "$$(id -u)" != 0 ]; then sudo=sudo; fi; \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium bubblewrap; }

# The one package of requirements/tpu.txt that `plan` needs and a CPU does not.
plan-deps: env
	@awk '/^libtpu==/{p=1} p{print} p && !/\\$$/{p=0}' requirements/tpu.txt > $(VENV)/libtpu.txt
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --require-hashes -r $(VENV)/libtpu.txt

plan-test: plan-deps
	$(BIN)/python -m pytest tests/pipeline/test_plan.py tests/pipeline/test_plan_compile.py \
		tests/pipeline/test_chips.py
	$(R1_JAX) plan --config=configs/r1_zero_countdown.py --config.mesh.data=4 --topology=v5e:2x2

bench: env
	$(BIN)/python -m bench.compare $(BENCH)

bench-peers: env peers
	$(BIN)/python -m bench.compare $(BENCH) --peers

# jax for the device comes first: REQUIREMENTS=requirements/tpu.txt on a TPU; on a GPU
# pip install -e '.[cuda]' into .venv, and JAX_PLATFORMS=cuda here.
bench-accelerator: BENCH =
bench-accelerator: env
	$(BIN)/python -m bench.compare --accelerator $(BENCH)

peers: .venvs/trl/installed .venvs/tunix/installed

# By pip, like torch above: its package index has the build for this machine.
.venvs/%/installed: bench/peers/%.txt
	$(PYTHON) -m venv .venvs/$*
	.venvs/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

pod-test: env
	$(BIN)/python -m pytest -m multihost tests/test_pod.py
