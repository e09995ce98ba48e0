"""Runs benchmarks by name: `trapline bench` calls it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from rich.console import Console

from bench.harness import InvalidRunError
from bench.registry import BENCHMARKS
from bench.report import Machine, show, summary, write


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is named; without a name say what there is.

    The exit code tells whether all ran, not whether targets were met: that depends on the machine and on who else uses
    it, and is in the output.
    """
    parser = argparse.ArgumentParser(prog="trapline bench")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--size", choices=("small", "full"), default="full")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in (*BENCHMARKS, "all")]:
        sys.stderr.write(f"trapline bench: there is no {unknown[0]!r}; there are {', '.join(BENCHMARKS)}, all\n")
        return 2
    if not options.names:
        for name, benchmark in BENCHMARKS.items():
            sys.stdout.write(f"{name:16} {benchmark.what}\n")
        return 0
    names = list(BENCHMARKS) if "all" in options.names else options.names
    failed = [name for name in names if not _run(name, options.size, as_json=options.json)]
    return 1 if failed else 0


def _run(name: str, size: str, *, as_json: bool) -> bool:
    machine = Machine.now()
    try:
        result = summary(name, size, machine, BENCHMARKS[name].load()(size))
    except InvalidRunError as error:
        sys.stderr.write(f"trapline bench: {name} was not measured: {error}\n")
        return False
    show(result, machine, Console(stderr=as_json, width=140))
    path = write(result)
    sys.stderr.write(f"  written to {path}\n")
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
    return True


if __name__ == "__main__":
    sys.exit(main())
