"""What a benchmark found, for people (a table with the machine) and for programs (JSON)."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.harness import Comparison, Judgement, Size, Target

RESULTS = Path(__file__).parents[2] / "bench-results"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran, and how busy that was when the run began."""

    cpu: str
    cores: int
    memory_gb: float
    load: tuple[float, float, float]
    system: str = field(default_factory=lambda: f"Linux {platform.release()}, Python {platform.python_version()}")

    @classmethod
    def now(cls) -> Machine:
        """Look at this machine."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(_cpu(), cores(), round(memory / 1e9, 1), os.getloadavg())

    def __str__(self) -> str:
        load = ", ".join(f"{value:.1f}" for value in self.load)
        return f"{self.cpu}, {self.cores} cores, {self.memory_gb:.0f} GB; load {load} at start; {self.system}"


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def summary(name: str, size: Size, machine: Machine, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return the result as one object: the fields of the case that is furthest from its target, and all cases."""
    cases = [_case(comparison, comparison.judged()) for comparison in comparisons]
    worst = max(range(len(cases)), key=lambda i: _distance(comparisons[i], cases[i]["ratio"]))
    met = [case["met"] for case in cases if case["met"] is not None]
    return {
        "name": name,
        **cases[worst],
        "met": all(met) if met else None,
        "cases": cases,
        "size": size,
        "t": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cpu": machine.cpu, "cores": machine.cores, "memory_gb": machine.memory_gb,
                    "load_at_start": machine.load, "load_at_end": os.getloadavg(), "system": machine.system},
    }  # fmt: skip


def write(result: dict[str, Any], directory: Path = RESULTS) -> Path:
    """Write a result beside those of other runs, and return where."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{result['t'].replace(':', '')}-{result['name']}-{result['size']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


def show(result: dict[str, Any], machine: Machine, console: Console) -> None:
    """Print a result as a table, with what is reported and not judged below."""
    table = Table(title=f"{result['name']} ({result['size']})", title_justify="left", box=None, header_style="bold")
    for heading in ("case", "ours", "baseline", "unit", "ratio", "90 % interval", "target", "met", "pairs"):
        table.add_column(heading, justify="left" if heading in ("case", "unit", "target") else "right")
    for case in result["cases"]:
        low, high = case["interval"]
        met = {True: "yes", False: "NO", None: ""}[case["met"]]
        numbers = (_short(case["ours"]), _short(case["baseline"]), case["unit"], f"{case['ratio']:.3f}")
        table.add_row(case["case"], *numbers, f"{low:.3f} to {high:.3f}", case["target"] or "", met, str(case["pairs"]))
    console.print(table)
    for case in result["cases"]:
        for name, value in case["notes"].items():
            text = value if isinstance(value, str) else _short(value)
            console.print(f"  {case['case']}: {name}: {text}", highlight=False, soft_wrap=True)
    console.print(f"  {machine}", style="dim", highlight=False, soft_wrap=True)


def _case(comparison: Comparison, judgement: Judgement) -> dict[str, Any]:
    return {
        "case": comparison.case,
        "ours": judgement.ours,
        "baseline": judgement.baseline,
        "unit": comparison.unit,
        "ratio": judgement.ratio,
        "interval": list(judgement.interval),
        "target": None if comparison.target is None else _words(comparison.target, comparison.unit),
        "met": judgement.met,
        "pairs": len(comparison.ours),
        "notes": dict(comparison.notes),
    }


def _words(target: Target, unit: str) -> str:
    allowance = f" after {target.allowance:g} {unit}" if target.allowance else ""
    return f"{target.sense} {target.ratio:g}{allowance}"


def _distance(comparison: Comparison, ratio: float) -> float:
    return comparison.target.missed_by(ratio) if comparison.target else 0.0


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
