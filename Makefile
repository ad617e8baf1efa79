# On a machine with Python 3.11+, git and make:
#   make serve    serve a real model, with a key, at once
#   make test     set up and run every test
# Both obey the environment (PORT, MODEL_PATH, AUTH_KEYS_FILE, DATA_DIR ...).

VENV ?= .venv
PY = $(VENV)/bin/python
PIP = $(PY) -m pip --disable-pip-version-check
export PIP_DEFAULT_TIMEOUT ?= 60
# Twisted caches its list of plugins beside them; the list is made anew after every install.
REFRESH_PLUGINS = $(PY) -c "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"

.DEFAULT_GOAL := help
.PHONY: help serve test system-tools lint format types laws docs wheel bench soak chaos siege fuzz image lowest \
	audit lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

serve: $(VENV)/.serve ## serve: the demo model if none is named, a first key if there is none
	@exec $(PY) -m twisted_llama.cli.demo

test: $(VENV)/.test system-tools ## run every test with coverage (ARGS="tests/auth -x" for a part)
	$(PY) -m pytest $(if $(ARGS),$(ARGS),--numprocesses=auto --dist=loadfile --cov --cov-report=term)

system-tools:
	@sh .ci/system-tools

lint: $(VENV)/.test ## ruff: rules and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.test ## ruff: mend what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: $(VENV)/.test ## mypy --strict
	$(VENV)/bin/mypy

laws: $(VENV)/.test ## the architecture's import laws
	$(VENV)/bin/lint-imports

docs: $(VENV)/.docs ## the site, in docs/_build/html; warnings are errors
	$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

wheel: $(VENV)/.serve ## the wheel, in dist/
	rm -rf build dist
	$(PIP) wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/*.whl

bench: $(VENV)/.test ## what a request and a token cost, beside other proxies
	$(PY) bench/run.py $(ARGS)

soak: $(VENV)/.test ## hours of mixed load, memory and descriptors watched
	$(PY) bench/soak.py $(ARGS)

chaos: $(VENV)/.test ## engines and clients that die at random
	$(PY) bench/chaos.py $(ARGS)

fuzz: $(VENV)/.fuzz ## every target for half a minute (ARGS="--seconds 600 --only channel")
	$(PY) -m fuzz.run $(ARGS)

siege: $(VENV)/.test ## thousands of idle and slow clients, and what others notice of them
	$(PY) bench/siege.py $(ARGS)

image: ## the CPU image, with docker or buildah (BASE_IMAGE, EXTRAS, FILE=docker/Dockerfile)
	@sh .ci/image

lowest: $(VENV)/.supply ## the tests of the code on the lowest dependencies of pyproject.toml
	@UV=$(VENV)/bin/uv .ci/lower-bounds

audit: $(VENV)/.supply ## bandit on the code, pip-audit on what the images install
	@BIN=$(VENV)/bin .ci/audit

lock: $(VENV)/.supply ## the images' dependencies with their hashes, in docker/*.lock
	@UV=$(VENV)/bin/uv .ci/lock

clean: ## everything that was made, except data/
	rm -rf $(VENV) .venv-lowest build dist docs/_build .coverage .coverage.* htmlcov .pytest_cache .mypy_cache \
		.ruff_cache .import_linter_cache *.egg-info twisted/plugins/dropin.cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# -- the environment, one stamp for each set of extras ---------------------------

$(VENV)/bin/pip:
	@sh .ci/make-venv $(VENV)

$(VENV)/.serve: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing the gateway and its engine into $(VENV) ..."
	@$(PIP) install --quiet -e '.[embedded]'
	@sh .ci/embedded-engine $(PY)
	@$(REFRESH_PLUGINS)
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing everything for tests and checks into $(VENV) ..."
	@$(PIP) install --quiet -e '.[embedded,redis,test,lint]'
	@sh .ci/embedded-engine $(PY)
	@$(REFRESH_PLUGINS)
	@touch $@ $(VENV)/.serve

$(VENV)/.fuzz: pyproject.toml | $(VENV)/.test
	@echo "Installing atheris into $(VENV) ..."
	@$(PIP) install --quiet -e '.[fuzz]'
	@$(REFRESH_PLUGINS)
	@touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing what builds the site into $(VENV) ..."
	@$(PIP) install --quiet -e '.[docs]'
	@$(REFRESH_PLUGINS)
	@touch $@

# What audits and locks the packages of the others.
$(VENV)/.supply: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing what audits and locks dependencies into $(VENV) ..."
	@$(PIP) install --quiet -e '.[supply]'
	@$(REFRESH_PLUGINS)
	@touch $@
