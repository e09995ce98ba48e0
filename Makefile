# Everything works from a bare clone with Python 3.11+ and make; `setup` finds or installs the rest.
PYTHON ?= python3
FRAMES ?=
ready := .venv/.ready

.PHONY: help setup run test check bench soak lock clean
help:
	@echo "make run [FRAMES=60]   the whole mesh with a simulated telescope; Ctrl-C drains it"
	@echo "make test              the tests          make check   ruff, mypy, pyright, architecture"
	@echo "make bench             speed as ratios    make soak    what is too long for test"
	@echo "make setup             .venv only         make clean   remove what was made"

setup: $(ready)
$(ready): requirements.lock pyproject.toml deploy/setup.sh
	@PYTHON="$(PYTHON)" sh deploy/setup.sh

run: $(ready)
	@exec .venv/bin/trapline up --simulate $(if $(FRAMES),--frames $(FRAMES))

test: $(ready)
	.venv/bin/pytest -m "not soak" -n auto --dist worksteal $(ARGS)

check: $(ready)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pyright
	.venv/bin/pytest -q tests/test_architecture.py

bench: $(ready)
	.venv/bin/trapline bench $(ARGS)

soak: $(ready)
	.venv/bin/pytest -m soak --timeout 3600 $(ARGS)

lock: $(ready)
	.venv/bin/uv pip compile --universal --generate-hashes --all-extras --no-emit-index-url \
	  --custom-compile-command "make lock" --upgrade -q pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis bench-results build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
