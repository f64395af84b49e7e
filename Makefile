# make demo | test | slow-test | repro | tour | page | clip | cluster | ui | servers | report | lint | verify | soak: each sets up
# .venv first, from pinned requirements.

PYTHON := $(shell for p in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
HARDWARE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
RECIPE ?= demo
verify: RECIPE = tiny
KILLS ?= 32
PORT ?= 5000
page: PORT = 7860
SHOWN := docs/results/flowers/model
MODEL ?= $(SHOWN)
# The page begins as the picture of README was drawn, and compares with a smaller model.
ifeq ($(MODEL),$(SHOWN))
OPENS ?= sampler=dpmpp_2m&signal_leak=True&noise_scale=0.97
AGAINST ?= docs/results/flowers-cpu/model
endif

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Experiments are git commits: without an identity they are made in the project's name.
IDENTITY := $(shell git config user.email >/dev/null 2>&1 || echo \
	GIT_AUTHOR_NAME=ddim GIT_AUTHOR_EMAIL=ddim@localhost \
	GIT_COMMITTER_NAME=ddim GIT_COMMITTER_EMAIL=ddim@localhost)

.PHONY: help commit demo test slow-test repro tour page clip cluster ui servers report lint verify soak setup requirements

help:
	@echo "make demo    the whole pipeline on drawn flowers, in minutes"
	@echo "make test    the tests; make slow-test the few that take minutes each"
	@echo "make repro   the whole pipeline as params.yaml says (real flowers; hours)"
	@echo "make tour    a notebook that takes the process apart, after make demo"
	@echo "make clip    what clip.preset needs: KerasHub, a download of 70 MB"
	@echo "make page    a page in the browser to play with a trained model, at once"
	@echo "make cluster what ddim cluster and ddim search need: Ray and Optuna"
	@echo "make ui      the runs in a browser, at http://127.0.0.1:$(PORT)"
	@echo "make servers MLflow with passwords, PostgreSQL and S3 for a team, on this machine"
	@echo "make report  one HTML page of what was run last, or of RUNS=\"A B\""
	@echo "make lint    linter, types, and the directions of imports"
	@echo "make verify  two clean clones give the same bytes (RECIPE=tiny)"
	@echo "make soak    kill the pipeline $(KILLS) times; nothing is lost"

setup: .venv/$(HARDWARE).txt .venv/bin/ddim

.venv/%.txt: requirements/%.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11, 3.12 or 3.13 is needed" >&2; exit 1; }
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@cp $< $@

# tensorflow-text asks for the full TensorFlow, which would overwrite the CPU build; the
# one that is there will do, and everything else is listed.
.venv/clip.txt: requirements/clip.txt | .venv/$(HARDWARE).txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@cp $< $@

# The command ddim, as a link to this folder; nothing is built or downloaded.
.venv/bin/ddim: pyproject.toml | .venv/$(HARDWARE).txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

# DVC experiments are based on a commit; dvc repro is content without git.
commit:
	@git rev-parse --verify --quiet HEAD >/dev/null 2>&1 || { echo "error: make demo: expected a git repository with" \
		"a commit; git init && git add . && git commit -m start makes one, and make repro needs none" >&2; exit 1; }

# An earlier experiment of this name stays: this one gets the next free number. A change of
# params.yaml that is not committed is kept in a file beside it.
demo: commit setup
	@! grep -qs no_scm .dvc/config.local || dvc config --local --unset core.no_scm
	@test -f dvc.lock || echo "First run: DVC will warn that no output is there yet. Good."
	@overrides=$$(python -m ddim.recipes $(RECIPE)) && \
	if test -n "$$overrides" && ! git diff --quiet HEAD -- params.yaml; then \
		own=params.own.$$(date +%Y%m%d-%H%M%S).yaml && cp params.yaml $$own && \
		echo "note: params.yaml had changes that are not committed; they are kept in $$own"; \
	fi && \
	taken=$$(dvc exp list --name-only 2>/dev/null); name=$(RECIPE); number=1; \
	while echo "$$taken" | grep -qx "$$name"; do \
		number=$$((number + 1)); name=$(RECIPE)-$$number; \
	done; \
	env $(IDENTITY) dvc exp run --name $$name $$overrides
	@echo
	@echo "Pictures: renders/samples.png, renders/animations/, renders/sheets/, renders/epochs/"
	@echo "Figures:  metrics/kid.csv, metrics/history.csv; dvc exp show; dvc plots show"
	@echo "MLflow:   make ui"
	@echo
	@echo "params.yaml holds the settings of the recipe $(RECIPE) now. Go on from here:"
	@echo "  source .venv/bin/activate"
	@git config user.email >/dev/null || echo \
		'  git config user.email you@example.org; git config user.name You    # experiments are commits'
	@echo "  dvc exp run -S train.loss=mse    an ablation of it"
	@echo "  git restore params.yaml          the full size again"

repro: setup
	@if git rev-parse --git-dir >/dev/null 2>&1; then \
		git diff --quiet params.yaml || echo "note: params.yaml is not as committed (git diff params.yaml)"; \
	else dvc config --local core.no_scm true; fi
	env $(IDENTITY) dvc repro

clip: setup .venv/clip.txt

cluster: setup .venv/cluster.txt

test: setup .venv/test.txt .venv/clip.txt .venv/page.txt .venv/cluster.txt
	python -m pytest

slow-test: setup .venv/test.txt .venv/clip.txt .venv/page.txt .venv/cluster.txt .venv/servers.txt
	python -m pytest -m slow

lint: setup .venv/test.txt
	ruff check .
	ruff format --check .
	mypy
	lint-imports

verify: setup
	python -m tests.pipeline.promises.verify --recipe $(RECIPE)

soak: setup
	python -m tests.pipeline.promises.soak --kills $(KILLS)

tour: setup .venv/tour.txt
	jupyter lab notebooks/tour.ipynb

page: setup .venv/page.txt
	ddim page --model $(MODEL) $(AGAINST:%=--against %) $(if $(OPENS),--opens "$(OPENS)") --port $(PORT)

report: setup
	ddim report $(RUNS)

# What a team shares, until Ctrl-C; everything lies in the folder servers/.
servers: setup .venv/servers.txt
	python -m ddim.tracking servers --port $(PORT) $(if $(FOLDER),--folder $(FOLDER))

ui: setup
	python -m ddim.tracking ui --port $(PORT)

# Pin the newest versions that pyproject.toml allows, the same ones in every file.
requirements:
	rm -f requirements/*.txt
	for extras in "cpu test tour page cluster servers" cpu gpu test tour page cluster servers clip; do \
		name=$$(echo $$extras | tr ' ' -); \
		uv pip compile pyproject.toml $$(printf -- '--extra %s ' $$extras) --universal \
			--python-version 3.11 --generate-hashes --no-header --no-annotate --quiet \
			$$(test -f requirements/cpu-test-tour-page-cluster-servers.txt && echo -c requirements/cpu-test-tour-page-cluster-servers.txt) \
			$$(test $$extras = clip && echo --no-emit-package tensorflow) \
			-o requirements/$$name.txt || exit 1; \
	done
	rm requirements/cpu-test-tour-page-cluster-servers.txt
