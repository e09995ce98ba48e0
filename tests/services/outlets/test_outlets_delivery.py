"""Outlets against a real relay, a real HTTP server and real programs: at least once, each from its own position."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from lightcurve_messages import event
from trapline.common.config import ConfigError
from trapline.common.ids import text_id
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.runtime.daemon import open_context
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.outlets.config import Cone, Filters
from trapline.outlets.core import passes
from trapline.outlets.delivery import read_positions
from trapline.outlets.service import run
from trapline.schemas.message import encode
from waiting import until

OBJECT = bytes(range(16))


def an_event(number, **changes):
    return event(number, OBJECT, opening=number, **changes)


@contextlib.contextmanager
def server(answers=()):
    """An HTTP server that gives these answers, then 204, and keeps what it was sent."""
    left, got = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code = left.pop(0) if left else 204
            got.append((code, self.headers["Idempotency-Key"], self.headers.get("X-Token"), body))
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/alerts", got
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


class Events:
    """A mesh with nothing but events."""

    def __init__(self, directory):
        self.directory = directory
        self.writer = JournalWriter(directory / "journal" / "transients" / "0")

    def add(self, *numbers, **changes):
        for number in numbers:
            self.writer.append(encode(an_event(number, **changes)))

    @contextlib.asynccontextmanager
    async def outlets(self, kill=False, **to):
        config = mesh_config(self.directory, outlets={"to": to})
        async with open_context("outlets", config, "0") as context:
            work = asyncio.create_task(run(context))
            try:
                yield context
            finally:
                context.draining.set()
                if kill:
                    work.cancel()
                await asyncio.wait({work}, timeout=20)
                if not work.cancelled():
                    work.result()


@pytest.fixture
def events(tmp_path):
    made = Events(tmp_path)
    with running_relay(mesh_config(tmp_path)):
        yield made
    made.writer.close()


async def test_a_webhook_gets_every_event_once_and_goes_on_where_it_was(events):
    with server() as (url, got):
        hook = {"type": "webhook", "url": url, "start": "first", "headers": {"X-Token": "secret"}}
        events.add(0, 1)
        async with events.outlets(hook=hook) as context:
            await until(lambda: context.counters["hook_delivered"] == 2)
        events.add(2)
        async with events.outlets(hook=hook) as context:
            await until(lambda: context.counters["hook_delivered"] == 1)
    assert [key for _, key, _, _ in got] == [text_id(an_event(k).header.id) for k in range(3)]
    _, _, token, body = got[0]
    assert token == "secret"
    assert (body["kind"], body["object_id"], body["significance"]) == ("flare", text_id(OBJECT), 7.5)
    assert body["band"]["name"] == "60.1 MHz"


async def test_a_server_that_is_down_is_waited_for_and_holds_up_no_other_outlet(events, tmp_path):
    with server() as (url, _):
        pass  # the port is free again: nobody answers
    voevents = {"type": "voevent", "directory": str(tmp_path / "vo"), "stream": "ivo://a/b", "start": "first"}
    events.add(0, 1)
    with server([503, 429, 500]) as (other, got):
        hooks = {
            name: {"type": "webhook", "url": at, "start": "first"} for name, at in (("down", url), ("shaky", other))
        }
        async with events.outlets(files=voevents, **hooks) as context:
            await until(lambda: context.counters["shaky_delivered"] == 2)
            await until(lambda: context.counters["files_delivered"] == 2)
            assert context.counters["down_delivered"] == 0
            assert context.counters["store_unavailable"] > 3
    assert [code for code, *_ in got] == [503, 429, 500, 204, 204]
    assert len(list((tmp_path / "vo").glob("*.xml"))) == 2
    assert read_positions(tmp_path / "outlets" / "down.position") is None
    with server() as (url, got):
        async with events.outlets(down={"type": "webhook", "url": url, "start": "first"}) as context:
            await until(lambda: context.counters["down_delivered"] == 2)
    assert len(got) == 2


async def test_what_is_refused_is_a_dead_letter_and_the_next_one_is_offered(events, tmp_path):
    events.add(0)
    events.writer.append([b"\xc1"])
    events.add(1, 2)
    with server([204, 400]) as (url, got):
        async with events.outlets(hook={"type": "webhook", "url": url, "start": "first"}) as context:
            await until(lambda: context.counters["hook_delivered"] == 2)
    assert [(code, body["t_us"]) for code, _, _, body in got] == [
        (code, an_event(k).header.t_us) for code, k in ((204, 0), (400, 1), (204, 2))
    ]
    letters = PartitionReader(tmp_path / "journal" / "dead_letters" / "outlets-0")
    assert letters.next_seq == 2


SCRIPT = """
import json, sys, pathlib
event = json.load(sys.stdin)
log = pathlib.Path(sys.argv[1])
with log.open("a") as file:
    file.write(event["id"] + "\\n")
sys.exit(75 if len(log.read_text().splitlines()) == 1 else 0)
"""


async def test_a_command_gets_the_event_on_its_input_and_may_ask_for_it_again(events, tmp_path):
    events.add(0, 1)
    log = tmp_path / "log"
    pager = {"type": "command", "command": [sys.executable, "-c", SCRIPT, str(log)], "start": "first"}
    async with events.outlets(pager=pager) as context:
        await until(lambda: context.counters["pager_delivered"] == 2)
    ids = [text_id(an_event(k).header.id) for k in range(2)]
    assert log.read_text().split() == [ids[0], *ids]


async def test_killed_at_any_time_nothing_is_lost(events, tmp_path):
    with server() as (url, got):
        hook = {"type": "webhook", "url": url, "start": "first"}
        for start in range(0, 40, 10):
            events.add(*range(start, start + 10))
            async with events.outlets(kill=True, hook=hook):
                await until(lambda start=start: len(got) > start + 3)
        async with events.outlets(hook=hook):
            await until(lambda: len({key for _, key, _, _ in got}) == 40)
    order = list(dict.fromkeys(key for _, key, _, _ in got))
    assert order == [text_id(an_event(k).header.id) for k in range(40)]
    assert len(got) <= 44, "at most one is repeated for each death"


async def test_without_a_position_it_begins_with_the_next_event(events):
    events.add(0, 1)
    with server() as (url, got):
        async with events.outlets(hook={"type": "webhook", "url": url}) as context:
            await until(lambda: context.reading)
            events.add(2)
            await until(lambda: len(got) == 1)
    assert got[0][1] == text_id(an_event(2).header.id)


@pytest.mark.parametrize(
    ("filters", "changes", "passing"),
    [
        ({}, {}, True),
        ({}, {"role": "injection"}, False),
        ({"roles": ("injection",)}, {"role": "injection"}, True),
        ({"kinds": ("flare", "fade")}, {}, True),
        ({"kinds": ("fade",)}, {}, False),
        ({"alert_types": ("retraction",)}, {}, False),
        ({"bands": ("60.1 MHz",)}, {}, True),
        ({"bands": ("70 MHz",)}, {}, False),
        ({"significance_min": 7.5}, {}, True),
        ({"significance_min": 7.6}, {}, False),
        ({"significance_min": 1.0}, {"significance": float("nan")}, False),
        ({"certain": True}, {"certain": False}, False),
        ({"certain": True}, {"certain": True}, True),
        ({"certain": True}, {}, True),
        ({"cone": Cone(ra_deg=359.5, dec_deg=22, radius_deg=1)}, {"ra_deg": 0.4}, True),
        ({"cone": Cone(ra_deg=359.5, dec_deg=22, radius_deg=1)}, {"ra_deg": 0.7}, False),
    ],
    ids=str,
)
def test_filters(filters, changes, passing):
    header = msgspec.structs.replace(an_event(0).header, **changes)
    assert passes(header, Filters(**filters)) is passing


async def test_no_outlet_and_a_damaged_position_are_told(events, tmp_path):
    with pytest.raises(ConfigError, match=r"outlets\.to is empty"):
        async with events.outlets() as context:
            await until(lambda: context.draining.is_set() or True)
    (tmp_path / "damaged").write_text("[")
    with pytest.raises(ValueError, match="remove it"):
        read_positions(tmp_path / "damaged")
    with pytest.raises(ConfigError, match=r"outlets\.to\.x"):
        mesh_config(tmp_path, outlets={"to": {"x": {"type": "voevent", "directory": "x", "stream": "http://a"}}})
