"""What cannot be served is refused before anyone connects, in one line that says why."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from trapline.simulator.config import SimulatorConfig
from trapline.simulator.serve import ServeError, serve
from trapline.simulator.sky import NoRoomError


async def test_a_port_in_use_is_named(small: SimulatorConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(ServeError, match=rf"cannot listen on tcp://127\.0\.0\.1:{number} for band 0: .*in use"):
            await serve(small.model_copy(update={"first_port": number}), print, asyncio.Event())
    with pytest.raises(ServeError, match=r"cannot listen on tcp://no\.such\.host\.invalid:0 .*choose another host"):
        await serve(small.model_copy(update={"first_port": 0, "host": "no.such.host.invalid"}), print, asyncio.Event())


async def test_a_place_that_cannot_be_written_is_named(small: SimulatorConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    announced: list[list[str]] = []
    with pytest.raises(ServeError, match=r"cannot record in .*/file/night: Not a directory; choose another `output`"):
        await serve(small.model_copy(update={"output": tmp_path / "file" / "night"}), announced.append, asyncio.Event())
    assert not announced


async def test_a_sky_without_room_is_refused_before_any_port_is_opened(small: SimulatorConfig) -> None:
    announced: list[list[str]] = []
    with pytest.raises(NoRoomError, match="set crowded"):
        await serve(small.model_copy(update={"n_steady": 300}), announced.append, asyncio.Event())
    assert not announced
