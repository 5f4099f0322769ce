# Everything that one does with a checkout. `make` alone lists it.

VENV_PYTHON := .venv/bin/python
PYTEST_ARGS ?= -n 2

.DEFAULT_GOAL := help
.PHONY: help demo setup models dev test quick pytest lint format protos protos-check plugin plugin-check test-hosts wheel archive clean

help:  ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup  ## Render a small shot, propagate its painted keyframe, and show where the pictures are
	@.venv/bin/paintover demo -o demo

setup:  ## Make .venv with the paintover command in it (PYTHON=python3.12 chooses the Python)
	@PYTHON='$(PYTHON)' sh tools/setup.sh

models:  ## The same, with what the diffusion methods run on (PyTorch: a few GB)
	@PYTHON='$(PYTHON)' sh tools/setup.sh models

dev:  ## The same, with what tests and checks
	@PYTHON='$(PYTHON)' sh tools/setup.sh dev

test:  ## Run all that CI runs
	@# Cargo compiles while pip downloads, and lints while mypy reads.
	@$(MAKE) --no-print-directory --jobs 2 plugin-check lint protos-check
	@$(MAKE) --no-print-directory pytest

pytest: dev  ## Run the tests (PYTEST_ARGS='-n 2' chooses how, and which)
	$(VENV_PYTHON) -m pytest --durations 20 $(PYTEST_ARGS)

quick: dev lint  ## Check style and types, and run the tests that need no daemon, browser, host or model
	$(VENV_PYTHON) -m pytest $(PYTEST_ARGS) -m 'not (daemon or browser or host or model or slow)'

lint: dev  ## Check style and types
	$(VENV_PYTHON) -m ruff check
	$(VENV_PYTHON) -m ruff format --check
	@# Against one set of stubs, NumPy 2.4's, which Python 3.10 cannot have.
	@if $(VENV_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; \
	then echo '$(VENV_PYTHON) -m mypy'; $(VENV_PYTHON) -m mypy; \
	else echo 'SKIPPED: TYPES ARE NOT CHECKED ON PYTHON 3.10; MAKE A .venv OF 3.11 OR LATER FOR THAT'; fi

format: dev  ## Mend style
	$(VENV_PYTHON) -m ruff check --fix
	$(VENV_PYTHON) -m ruff format

protos: dev  ## Generate protos/python from protos/paintover
	@$(VENV_PYTHON) tools/protos.py

protos-check: dev  ## Fail if protos/python is not what protos/paintover says
	@$(VENV_PYTHON) tools/protos.py --check

plugin:  ## Build the OpenFX effect, plugin_ofx/build/Paintover.ofx.bundle (needs cargo)
	@if command -v cargo >/dev/null; then sh plugin_ofx/bundle.sh; \
	else echo 'SKIPPED: THE OPENFX EFFECT IS NOT BUILT AND NOT TESTED; INSTALL RUST (cargo) FOR THAT'; fi

plugin-check: plugin  ## Check the OpenFX effect's style and run its own tests
	@if command -v cargo >/dev/null; then cd plugin_ofx && cargo fmt --check \
	&& cargo clippy --locked --all-targets -- -D warnings && cargo test --locked --lib; fi

test-hosts: dev plugin-check  ## Test the OpenFX effect in a small host and in melt
	$(VENV_PYTHON) -m pytest $(PYTEST_ARGS) tests/plugin_ofx

wheel: dev  ## Build the distribution `paintover`, one wheel with all parts, into dist/
	$(VENV_PYTHON) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

archive: dev plugin  ## Build the archive that people without a checkout install from
	$(VENV_PYTHON) tools/archive.py

clean:  ## Remove all that these commands made
	rm -rf .venv .venv-protos demo .mypy_cache .pytest_cache .ruff_cache plugin_ofx/build plugin_ofx/target
	find protos local bridge engine evaluation tests tools benchmarks -name __pycache__ -prune -exec rm -rf {} +
