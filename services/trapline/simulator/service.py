"""simulator as a daemon: a telescope that serves images until told to stop, or until it has shown all its frames."""

from __future__ import annotations

from dataclasses import asdict
from typing import cast

from trapline.common.runtime.context import Context
from trapline.common.runtime.daemon import Service
from trapline.simulator.config import SimulatorConfig
from trapline.simulator.serve import serve


async def run(context: Context) -> None:
    """Serve images; `ServeReport` says at the end what was served."""
    context.fine()

    def announce(addresses: list[str]) -> None:
        context.log.info("listening", addresses=addresses)

    report = await serve(cast("SimulatorConfig", context.section), announce, context.draining)
    context.counters.update(asdict(report))


SERVICE = Service("simulator", run)
