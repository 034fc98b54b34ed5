# Every job of the project is a verb here; `make` alone lists them.
#
#   make demo                                  the whole pipeline on the tiny model
#   make sft RECIPE=NAME                       a stage with another recipe: recipes/NAME.yaml
#   make sft RECIPE=NAME ARGS="sft.steps=3"    ... with a value changed
#   make eval BENCH=ocrbench DATA=FILE N=100   a public benchmark from your file
#   make miniature SEEDS=1                     the paper's claims on the tiny model, one seed

PYTHON ?= python3
RECIPE ?= demo
ARGS ?=
BENCH ?=
DATA ?=
N ?=
SEEDS ?=
VENV := .venv
RUN := $(VENV)/bin/codevision-lite
# Where `make setup` takes torch from on Linux without a GPU: PyPI's wheel would bring 3 GB of CUDA libraries.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
# Which requirements: by whether there is an NVIDIA GPU. `make setup REQUIREMENTS=requirements-cpu.txt` decides for you.
REQUIREMENTS ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo requirements.txt || echo requirements-cpu.txt)
# One stamp for each requirements file: another choice, or a change of the files, installs again.
STAMP := $(VENV)/.installed-$(REQUIREMENTS)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint synth sft filter rl eval diagnose report plan doctor ui miniature bench gpu-check tiny-base clean

help: ## list the verbs
	@echo "Usage: make VERB [RECIPE=demo] [ARGS=\"key=value ...\"]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv and install what this machine can use (GPU or CPU)
	@echo "$(VENV) is ready ($(REQUIREMENTS))"

demo: $(STAMP) ## base, SFT and GRPO on the tiny model, evaluated after each; writes runs/demo/report.html
	$(RUN) demo recipes/$(RECIPE).yaml $(ARGS)

test: $(STAMP) ## run the tests (FAST=1: only the fast ones)
	$(VENV)/bin/python -m pytest $(if $(FAST),-m "not slow and not gpu") $(ARGS)

lint: $(STAMP) ## check the style of the code
	$(VENV)/bin/ruff check .

synth: $(STAMP) ## draw the pictures and write the SFT and RL data
	$(RUN) synth recipes/$(RECIPE).yaml $(ARGS)

sft: $(STAMP) ## supervised fine-tuning
	$(RUN) sft recipes/$(RECIPE).yaml $(ARGS)

filter: $(STAMP) ## keep the RL samples that the SFT model gets right sometimes, not always
	$(RUN) filter recipes/$(RECIPE).yaml $(ARGS)

rl: $(STAMP) ## GRPO, from the SFT adapter
	$(RUN) rl recipes/$(RECIPE).yaml $(ARGS)

eval: $(STAMP) ## measure a run's models on held-out pictures; BENCH=ocrbench DATA=file N=100: on a benchmark
	$(if $(BENCH),$(RUN) bench $(BENCH) $(DATA) $(if $(N),--n $(N)) $(ARGS),$(RUN) eval recipes/$(RECIPE).yaml $(ARGS))

diagnose: $(STAMP) ## can the model tell how a picture was turned? (200 pictures, five ways)
	$(RUN) diagnose $(ARGS)

report: $(STAMP) ## write the report of a run again, from its files
	$(RUN) report recipes/$(RECIPE).yaml $(ARGS)

miniature: $(STAMP) ## the paper's claims, tested on the tiny model: SEEDS=3 runs of nine models each; writes runs/miniature/report.html
	$(RUN) miniature recipes/miniature.yaml $(if $(SEEDS),seeds=$(SEEDS)) $(ARGS)

bench: $(STAMP) ## measure speed, each script beside its alternative (smolagents: pip install -r benchmarks/requirements.txt)
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(VENV)/bin/python $$script $(ARGS) || exit 1; done

doctor: $(STAMP) ## what of this works on this machine, and what to do about the rest
	$(RUN) doctor $(ARGS)

ui: $(STAMP) ## the app in the browser: damage a picture, ask with and without tools
	@$(VENV)/bin/python -c 'import gradio' 2>/dev/null || $(VENV)/bin/pip install -q --no-deps -r requirements-ui.txt
	$(RUN) ui $(ARGS)

plan: $(STAMP) ## will this recipe fit the GPU? peak memory by part, and the knob to turn
	$(RUN) plan recipes/$(RECIPE).yaml $(ARGS)

gpu-check: $(STAMP) ## 3B and 7B with random weights on this machine's GPU: memory, speed, the plan beside what was measured
	$(RUN) gpu-check $(ARGS)

tiny-base: RECIPE = tiny_base
tiny-base: $(STAMP) ## train the tiny base model of sample_data/ again, from its seed
	$(RUN) tiny-base recipes/$(RECIPE).yaml $(ARGS)

clean: ## remove caches and build leftovers (.venv and runs/ stay)
	rm -rf build *.egg-info .pytest_cache .ruff_cache .hypothesis unsloth_compiled_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(STAMP): requirements.txt requirements-cpu.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not. Name one: make setup PYTHON=python3.12" >&2; exit 2; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python's venv module is missing. On Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 2; }
	@echo "Installing $(REQUIREMENTS) into $(VENV) (some minutes the first time)"
ifeq ($(REQUIREMENTS) $(shell uname -s),requirements-cpu.txt Linux)
	@$(VENV)/bin/pip install -q --no-deps --retries 1 --timeout 20 --index-url $(TORCH_CPU_INDEX) \
	  "$$(grep -o '^torch==[0-9.]*' $(REQUIREMENTS))" 2>/dev/null || echo "  torch: from the default package index"
endif
	@$(VENV)/bin/pip install -q -r $(REQUIREMENTS)
	@$(VENV)/bin/pip install -q --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.installed-*
	@touch $@
