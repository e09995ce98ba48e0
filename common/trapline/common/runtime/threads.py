"""One thread of the numerical libraries per process.

A process is the unit of parallelism here: libraries that start a thread per core in each of as many processes would
fight over the cores. They read how many they may start from variables, when they are loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

ONE_THREAD: Mapping[str, str] = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def with_one_thread(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which libraries have one thread, where it does not say otherwise."""
    return {**ONE_THREAD, **environment}


def begin_again_with_one_thread() -> None:
    """Become this same command once more, with these variables, unless they are set already.

    Its libraries are loaded by now: setting the variables alone would come too late.
    """
    if not ONE_THREAD.keys() <= os.environ.keys():
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, with_one_thread(os.environ))  # noqa: S606  never through a shell
