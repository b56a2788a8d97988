# Every target sets up what it needs, in .venv/ and .trialflow/ of this checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PRIVATE := $(BIN)/python -m private_airflow
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help demo up down status env check bench bench-kubeflow bench-quality bench-operating bench-bookkeeping lock clean cluster cluster-down
.PHONY: test test-unit test-slow test-airflow test-airflow-in-worker test-airflow-deferred test-airflow-private
.PHONY: test-cluster test-cluster-jobs test-cluster-dag

help:  ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(VENV)/.ready: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Trialflow needs Python 3.10 or later" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) --requirement requirements.txt
	$(UV) --no-deps --editable .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements-dev.txt
	$(UV) --requirement requirements-dev.txt
	@touch $@

# The domain's tests run where Airflow is not installed, which proves that it is not needed.
.venv-core/.ready: $(VENV)/.ready-dev
	$(BIN)/python -m venv --without-pip .venv-core
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-core/bin/python --requirement requirements-dev.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-core/bin/python --no-deps --editable .
	@touch $@

demo: $(VENV)/.ready  ## Tune a model on handwritten digits in a private Airflow, and show how it went
	@$(PRIVATE) demo

up: $(VENV)/.ready  ## Start the private Airflow for the browser; prints its address and login
	@$(PRIVATE) up

down: $(VENV)/.ready  ## End the private Airflow and everything that it started
	@$(PRIVATE) down

status: $(VENV)/.ready  ## Say which components of the private Airflow are up
	@$(PRIVATE) status

env:  ## Print the variables for the airflow command: eval "$$(make env)"
	@$(PRIVATE) env

# What takes long goes first, and two at a time: three on two processors took 22 minutes, and tests waited in vain.
test: $(VENV)/.ready-dev .venv-core/.ready  ## Run all tests but those on Kubernetes
	@$(MAKE) --no-print-directory --jobs=2 test-airflow-in-worker test-airflow-deferred test-unit test-airflow-private

test-unit: .venv-core/.ready  ## Run the tests of the domain, without Airflow
	.venv-core/bin/python -m pytest -n 2 -m "not slow" tests/unit

test-slow: .venv-core/.ready  ## Break the code on purpose, and let the tuners search for long
	.venv-core/bin/python -m pytest -n 2 -m slow tests/unit

# A session of pytest for each way to wait for a trial, with an Airflow of its own. Their orders differ, so that the
# experiments of one, which need the processors, meet the crashes of the other, which wait for recovery. The tests of
# the private Airflow have a session too.
DEFERRED := $(addprefix tests/airflow/test_,experiments.py crashes.py stops.py user_classes.py)
PRIVATE_TESTS := $(addprefix tests/airflow/test_,demo.py private_airflow.py)
test-airflow: $(VENV)/.ready-dev  ## Run the tests of the DAG on a real Airflow of their own
	@$(MAKE) --no-print-directory --jobs=2 test-airflow-in-worker test-airflow-deferred test-airflow-private

test-airflow-in-worker: $(VENV)/.ready-dev
	$(BIN)/python -m pytest --durations=12 tests/airflow -k "not deferred" $(addprefix --ignore=,$(PRIVATE_TESTS))

test-airflow-deferred: $(VENV)/.ready-dev
	$(BIN)/python -m pytest --durations=12 $(DEFERRED) -k "not in-worker"

test-airflow-private: $(VENV)/.ready-dev
	$(BIN)/python -m pytest --durations=12 $(PRIVATE_TESTS) -k "not deferred"

# Two sessions at a time, each with a cluster of its own: both wait most of the time.
test-cluster: $(VENV)/.ready-dev  ## Run the tests that need Kubernetes, on clusters of their own; as root
	$(BIN)/python -m tests.cluster build
	@$(MAKE) --no-print-directory --jobs=2 test-cluster-jobs test-cluster-dag

test-cluster-jobs: $(VENV)/.ready-dev
	$(BIN)/python -m pytest tests/cluster --ignore tests/cluster/dag

test-cluster-dag: $(VENV)/.ready-dev
	$(BIN)/python -m pytest tests/cluster/dag

cluster: $(VENV)/.ready-dev  ## Start a private Kubernetes with the training operator; prints its KUBECONFIG
	@$(BIN)/python -m tests.cluster up

cluster-down: $(VENV)/.ready-dev  ## End the private Kubernetes and everything that it started
	@$(BIN)/python -m tests.cluster down

check: $(VENV)/.ready-dev  ## Check style, types, the layers and the dependencies
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

bench: $(VENV)/.ready-dev  ## Compare with NNI 3.0 in one run; about 15 minutes
	$(BIN)/python bench/compare_with_nni.py

bench-kubeflow: $(VENV)/.ready-dev  ## Measure what trials on Kubernetes cost; about 25 minutes, as root
	$(BIN)/python -m bench.kubeflow_cost

bench-quality: $(VENV)/.ready-dev  ## Compare the tuners with NNI 3.0's on four problems; takes hours
	$(BIN)/python bench/quality.py

bench-operating: $(VENV)/.ready-dev  ## Print how long looking at a large experiment takes
	$(BIN)/python bench/operating.py

bench-bookkeeping: .venv-core/.ready  ## Print the CPU that the bookkeeping of a trial takes
	.venv-core/bin/python bench/bookkeeping.py

lock: $(VENV)/.ready-dev  ## Pin the newest versions that fit together
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --no-header pyproject.toml --extra airflow --extra gpu --extra kubernetes --extra postgres -o requirements.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --no-header pyproject.toml --group check --group test -c requirements.txt -o requirements-dev.txt

clean: ## End the private Airflow and remove all that was set up
	-$(PRIVATE) down
	-$(BIN)/python -m tests.cluster down
	rm -rf $(VENV) .venv-core .trialflow
