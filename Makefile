# Noble Runbooks. Each target brings what it needs, and does its work in TARGET-here.
#
#   ON=HOST...  where notebooks are executed (ci/hosts.toml)    JOBS=N    how many at a time
#   RUN=0       run none of them; RUN=all: all of them again    YES=1     install without asking
#   WHICH=lowest   with which versions of the libraries, or newest
#   SERVE=0     build the site and do not serve it              PORT=N    where it is served
#   ARGS="..."  more arguments for pytest: --max-age DAYS, -k NAME, ...

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

export ON ?= debian-13 debian-13-vm
export JOBS ?= 2
export PORT ?= 8000
export SERVE ?= 1
export RUN ?= 1
export ARGS ?=
export NAME ?=
export MODE ?= plan
export INVENTORY ?=
WHICH ?= lowest newest
export YES ?=
# The uv that the set-up brought, where the machine has none: ci/fixtures use it.
export PATH := $(PATH):$(CURDIR)/build/tools/bin

setup := ci/setup.sh
bin := .venv/bin

.PHONY: help
help: ## this list
	@sed -n 's/^#   /  /p' Makefile
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-13s %s\n", $$1, $$2}'

.PHONY: site
site: ## serve the site, and run behind it what is due
	@ci/site.sh

.PHONY: run run-here
run: ## execute the notebooks
	@$(setup) $@ engine
run-here:
	@$(bin)/pytest runbooks notebooks $(ON:%=--on %) -n $(JOBS) $(if $(filter all,$(RUN)),--rerun) $(ARGS)

.PHONY: evidence evidence-here
evidence: ## take over the runs made here as the committed records
	@$(setup) $@
evidence-here:
	@$(bin)/python -m kb.proof.evidence keep $(ON)

.PHONY: test test-here
test: ## run the tests
	@$(setup) $@ engine browser
test-here:
	@$(bin)/pytest tests -n $(JOBS) --dist loadfile $(ARGS)

.PHONY: engine engine-here
engine: ## a Docker engine that answers, and the image of debian-13
	@$(setup) $@ engine
engine-here:
	@:

.PHONY: lint lint-here
lint: ## run the lints alone
	@$(setup) $@
lint-here:
	@$(bin)/pytest tests/lint -n $(JOBS) $(ARGS)

.PHONY: fmt fmt-here
fmt: ## bring notebooks and Python code into the committed format
	@$(setup) $@
fmt-here:
	@$(bin)/python -m kb.proof.format runbooks notebooks
	@$(bin)/ruff check --quiet --fix .
	@$(bin)/ruff format --quiet .

.PHONY: new new-here
new: ## a new runbook or notebook: make new NAME=runbooks/area/name
	@$(setup) $@
new-here:
	@$(bin)/python -m kb.proof.new "$(NAME)"

.PHONY: carry carry-here
carry: ## one file that runs a runbook on a host without a network: make carry NAME=runbooks/area/name
	@$(setup) $@
carry-here:
	@ci/carry.sh "$(NAME)" $(ARGS)

.PHONY: fleet fleet-here
fleet: ## run a runbook on an inventory: make fleet INVENTORY=hosts.ini NAME=runbooks/area/name MODE=plan
	@$(setup) $@ ansible
fleet-here:
	@$(bin)/python -m kb.proof.fleet "$(INVENTORY)" "$(NAME)" "$(MODE)" $(ARGS)

.PHONY: bench bench-here
bench: ## measure speed and weight against the base stack
	@$(setup) $@ engine
bench-here:
	@ci/bench.sh

.PHONY: versions
versions: ## the tests with the lowest and with the newest versions of the libraries
	@ci/versions.sh $(WHICH)

.PHONY: lock
lock: ## resolve the dependencies anew and write requirements*.txt
	@ci/lock.sh

.PHONY: clean
clean: ## remove what make made, records and notes of roll-outs too (images stay in the engine)
	rm -rf --one-file-system .venv build site
