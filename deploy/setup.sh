#!/bin/sh
# Makes .venv with everything in requirements.lock and this project, editable. Run by `make setup`.
set -eu

python=${PYTHON:-python3}

say() { printf 'setup: %s\n' "$*" >&2; }

if ! command -v "$python" >/dev/null 2>&1; then
    say "no $python here; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    say "$("$python" --version) is too old; Trapline needs 3.11 or newer: make PYTHON=/path/to/python3.11"
    exit 1
fi

# Debian and Ubuntu ship Python without venv and pip.
if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "this Python has no venv: installing python3-venv"
        apt-get update -q >/dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv >/dev/null
    else
        say "this Python has no venv; install it first: sudo apt-get install python3-venv"
        exit 1
    fi
fi

say "making .venv"
rm -f .venv/.ready
[ -x .venv/bin/python ] || "$python" -m venv .venv
[ -x .venv/bin/uv ] || .venv/bin/python -m pip install -q --disable-pip-version-check uv
# Compiled once here, not by each process of the mesh again: where PYTHONDONTWRITEBYTECODE is set, a start takes seconds.
.venv/bin/uv pip install -q --compile-bytecode --python .venv/bin/python --require-hashes -r requirements.lock
.venv/bin/uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .
env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m compileall -q common schemas services tests
touch .venv/.ready
say "done; .venv/bin/trapline is the command"
