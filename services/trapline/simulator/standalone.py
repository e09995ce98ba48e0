"""The simulated telescope without a mesh: `trapline simulate`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import cast

from trapline.common.config import ConfigError
from trapline.common.config.mesh import load_config
from trapline.simulator.config import SimulatorConfig
from trapline.simulator.fitsfile import write_files
from trapline.simulator.serve import ServeError, serve
from trapline.simulator.sky import NoRoomError


def main() -> int:
    """Serve images until told to stop, or write them as FITS files; return the exit code."""
    parser = argparse.ArgumentParser(prog="trapline simulate")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--fits", type=Path)
    options = parser.parse_args()
    try:
        config = cast("SimulatorConfig", load_config(options.config).service("simulator"))
        if options.fits is None:
            asyncio.run(_serve(config))
        else:
            _write(config, options.fits)
    except (ConfigError, ServeError, NoRoomError, OSError) as error:
        sys.stderr.write(f"trapline: {error}\n")
        return 1
    return 0


async def _serve(config: SimulatorConfig) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def announce(addresses: list[str]) -> None:
        sys.stdout.write("".join(f"listening on {address}\n" for address in addresses))
        sys.stdout.flush()

    report = await serve(config, announce, stop)
    sys.stdout.write(" ".join(f"{name}={value}" for name, value in asdict(report).items()) + "\n")


def _write(config: SimulatorConfig, directory: Path) -> None:
    if config.frames is None:
        raise ConfigError("files need an end: give --frames, or [simulator] frames")
    paths = write_files(config, directory)
    sys.stdout.write(f"wrote {len(paths)} images and their truth to {directory}\n")


if __name__ == "__main__":
    sys.exit(main())
