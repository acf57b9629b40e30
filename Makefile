# What people type. `make help` lists it. Everything runs in .venv, which make creates.
#
#   SWEEP=    the spec (default: the sweep submitted last, else sweeps/demo.yaml)
#   RESULTS=  the results folder (default: results)
#   NAME=     a partition's name, for new-partition
#   RATINGS=  a table of people's ratings (CSV), for collect
#   FROM=     results of another tool, for collect: an Optuna study, a W&B export, JSON files
#   TRIAL=    a trial's number, or its directory's name
#   ARGS=     overrides and options for the command behind the target, such as
#             ARGS='learning_rate=1e-5,3e-5 --dry-run'
#   TORCH=    what `make setup-train` installs (default: the CPU build where there is no NVIDIA GPU)
#   PYTHON=   the Python (3.11 or newer) that .venv is made of

SHELL := /bin/bash
.DEFAULT_GOAL := help

SWEEP ?=
RESULTS ?= results
RATINGS ?=
FROM ?=
ARGS ?=
# Root's own Python often lies below /root, where the jobs of an ordinary user cannot reach it.
PYTHON ?= $(shell if [ "$$(id -u)" = 0 ] && /usr/bin/python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo /usr/bin/python3; else echo python3; fi)
# Plain torch on Linux brings gigabytes of CUDA, also to a machine without a GPU.
TORCH ?= $(shell if [ "$$(uname -s)" != Linux ] || command -v nvidia-smi >/dev/null 2>&1; then echo torch==2.13.0; else echo torch==2.13.0+cpu; fi)

NAMED_SWEEP = $(if $(SWEEP),'$(SWEEP)')
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
ORCHESTRATOR := $(BIN)/orchestrator
# Cluster tests wait most of their time, so more workers than cores; each has a Slurm of its own.
WORKERS ?= --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: help
help:  ## this list
	@echo "Hyperparameter sweeps as Slurm job arrays. Start with: make demo"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'
	@echo
	@echo "SWEEP=sweeps/x.yaml, RESULTS=folder and ARGS='learning_rate=1e-5,3e-5 --dry-run'"
	@echo "go with plan, submit, status, collect and what else is about a sweep."

# --- setting up ---------------------------------------------------------------------------------

.PHONY: setup setup-train
setup: .venv/.setup  ## install the orchestrator (all that a login node needs)
setup-train: .venv/.setup-train  ## install what train/ needs too: PyTorch and more

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, not " + sys.version.split()[0] + "; name one with PYTHON=" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.setup: .venv/.made pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

.venv/.setup-train: .venv/.setup
	@echo "installing $(TORCH) and the training packages (minutes)"
	@$(PIP) '$(TORCH)' || { \
	  echo "Your package index has no $(TORCH). For the CPU build set PIP_EXTRA_INDEX_URL to the CPU"; \
	  echo "index that PyTorch's 'Get started' page names; for the CUDA build: TORCH=torch==2.13.0"; \
	  exit 2; }
	$(PIP) --editable '.[train]'
	@touch $@

.venv/.setup-dev: .venv/.setup-train
	$(PIP) --editable '.[train,dev]'
	@touch $@

# --- sweeps -------------------------------------------------------------------------------------

.PHONY: demo plan submit supervise status watch logs failures explain release collect report confirm
.PHONY: costs export ratings reproduce doctor
demo: .venv/.setup-train  ## a small sweep of real trainings on this machine
	$(ORCHESTRATOR) submit sweeps/demo.yaml --cluster local --results '$(RESULTS)' $(ARGS) || [ $$? -eq 1 ]
	$(ORCHESTRATOR) collect sweeps/demo.yaml --results '$(RESULTS)'

plan: .venv/.setup  ## what SWEEP would take: hours, cost, wall time
	@$(ORCHESTRATOR) plan $(NAMED_SWEEP) --results '$(RESULTS)' $(ARGS)

submit: .venv/.setup  ## submit what is new of SWEEP, or has to go on
	@$(ORCHESTRATOR) submit $(NAMED_SWEEP) --results '$(RESULTS)' $(ARGS)

supervise: .venv/.setup  ## look after it to its end; ARGS=--job does so as a job
	@$(ORCHESTRATOR) supervise $(NAMED_SWEEP) --results '$(RESULTS)' $(ARGS)

status: .venv/.setup  ## where its trials stand, and why some failed
	@$(ORCHESTRATOR) status $(NAMED_SWEEP) --results '$(RESULTS)' $(ARGS)

watch: .venv/.setup  ## progress, cost and best so far, until you stop it
	@$(ORCHESTRATOR) watch $(NAMED_SWEEP) --results '$(RESULTS)' $(ARGS)

logs: .venv/.setup  ## follow one trial's log across its attempts: TRIAL=3
	@$(ORCHESTRATOR) logs $(NAMED_SWEEP) --trial '$(TRIAL)' --results '$(RESULTS)' $(ARGS)

failures: .venv/.setup  ## what failed, grouped by cause, with one traceback each
	@$(ORCHESTRATOR) failures $(NAMED_SWEEP) --results '$(RESULTS)' $(ARGS)

explain: .venv/.setup  ## the whole story of one trial: TRIAL=3
	@$(ORCHESTRATOR) explain $(NAMED_SWEEP) --trial '$(TRIAL)' --results '$(RESULTS)' $(ARGS)

release: .venv/.setup  ## go on after the gate closed: mended, or more budget
	@$(ORCHESTRATOR) release $(NAMED_SWEEP) --results '$(RESULTS)' $(ARGS)

collect: .venv/.setup  ## merge the results into a ranked leaderboard
	@$(ORCHESTRATOR) collect $(NAMED_SWEEP) --results '$(RESULTS)' $(if $(RATINGS),--ratings '$(RATINGS)') $(if $(FROM),--from '$(FROM)') $(ARGS)

report: .venv/.setup  ## the results as one HTML page that needs no network
	@$(ORCHESTRATOR) report $(NAMED_SWEEP) --results '$(RESULTS)' $(ARGS)

confirm: .venv/.setup  ## run the best again with fresh seeds
	@$(ORCHESTRATOR) confirm $(NAMED_SWEEP) --results '$(RESULTS)' $(ARGS)

costs: .venv/.setup  ## what it took, and would have taken on demand
	@$(ORCHESTRATOR) costs $(NAMED_SWEEP) --results '$(RESULTS)' $(ARGS)

export: .venv/.setup  ## the results for other tools: ARGS='--to latex optuna'
	@$(ORCHESTRATOR) export $(NAMED_SWEEP) --results '$(RESULTS)' $(ARGS)

ratings: .venv/.setup  ## a blind sheet of its answers, for people to rate
	@$(ORCHESTRATOR) ratings $(NAMED_SWEEP) --results '$(RESULTS)' $(ARGS)

reproduce: .venv/.setup  ## run one trial again, here, and compare: TRIAL=3
	@$(ORCHESTRATOR) reproduce $(NAMED_SWEEP) --trial '$(TRIAL)' --results '$(RESULTS)' $(ARGS)

doctor: .venv/.setup  ## this site's traps, and what is done about each
	@$(ORCHESTRATOR) doctor --results '$(RESULTS)' $(ARGS)

# --- partitions, for those who run the cluster ----------------------------------------------------

.PHONY: lint new-partition
lint: .venv/.setup  ## check templates and profiles, and what an edit changes
	@$(ORCHESTRATOR) lint $(NAMED_SWEEP) $(ARGS)

new-partition: .venv/.setup  ## draft template and profile of partition NAME
	@$(ORCHESTRATOR) new-partition '$(NAME)' $(ARGS)

# --- a Slurm of your own, for tests and first tries (Debian, as root) ----------------------------

.PHONY: cluster-up cluster-down
cluster-up: .venv/.made  ## start a real Slurm of four pretended nodes
	@$(BIN)/python -m tests.cluster up $(ARGS)

cluster-down: .venv/.made  ## stop it
	@$(BIN)/python -m tests.cluster down

# --- the project itself -------------------------------------------------------------------------

.PHONY: test test-all kill-points preemption-points preemption-matrix storm style golden bench bench-train
test: .venv/.setup-dev style  ## all checks and tests, on a real Slurm where possible
	@$(ORCHESTRATOR) lint
	$(BIN)/python -m pytest -m 'not slow' $(WORKERS) $(ARGS)

test-all: .venv/.setup-dev style  ## and the slow ones: the whole grid of 162 trials
	@$(ORCHESTRATOR) lint
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

kill-points: .venv/.setup-dev  ## kill `submit` 10,000 times: nothing lost or doubled
	$(BIN)/python -m tests.faults.kill_points --n 10000 --processes 4 $(ARGS)

preemption-points: .venv/.setup-dev  ## interrupt trainings anywhere: the same end to the bit
	for kind in plain zero2 lora; do $(BIN)/python -m tests.train.preemption_points --kind $$kind $(ARGS) || exit 1; done

preemption-matrix: .venv/.setup-dev  ## preempt in every way, into RESULTS.md
	$(BIN)/python -m tests.cluster.preemption_matrix $(ARGS)

style: .venv/.setup-dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

golden: .venv/.setup-dev  ## record the golden files anew; review the diff
	$(BIN)/python -m pytest -q tests/usecases/test_golden.py tests/adapters/test_watch_screen.py --record-golden

storm: .venv/.setup-dev  ## 100 trials while all breaks (Debian, as root)
	@$(BIN)/python -m tests.storm $(ARGS)

bench: .venv/.setup-dev  ## benchmarks, printed as ratios
	$(BIN)/python -m tests.benchmarks

bench-train: .venv/.setup-train  ## what each lever of training gives here
	$(BIN)/python -m tests.benchmarks.bench_train $(ARGS)
