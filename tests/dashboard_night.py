"""A night for the dashboard: real journals, relay and store, and the dashboard as a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from astropy.io.fits import Header as FitsHeader

import lightcurve_messages as mesh
from dashboard_reports import report
from mesh_runs import environment
from trapline.common.ids import record_id
from trapline.common.journal import JournalWriter
from trapline.common.postgres.connection import open_database, run_blocking
from trapline.common.supervisor.environment import child_environment
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.common.wcs import wcs_cards
from trapline.database_dumper.core import rows_of
from trapline.database_dumper.store import store_batch
from trapline.schemas.columns import Kind
from trapline.schemas.images import Images
from trapline.schemas.message import Message, encode
from trapline.schemas.registry import schema_of
from trapline.schemas.sources import COLUMNS, Sources
from trapline.schemas.transients import RECENT
from waiting import wait_for

SIDE = 96
SERVICES = ("relay", "image_ingest", "source_extractor", "associator", "transient_finder", "database_dumper")


def wcs_of_field():
    """Return the WCS of a field of 48 degrees about 83.6 +22."""
    header = FitsHeader()
    for key, value in {
        "CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CRVAL1": 83.6, "CRVAL2": 22.0, "CRPIX1": SIDE / 2,
        "CRPIX2": SIDE / 2, "CDELT1": -0.5, "CDELT2": 0.5, "CUNIT1": "deg", "CUNIT2": "deg",
    }.items():  # fmt: skip
        header[key] = value
    return wcs_cards(header)


class Night:
    """Journals and rows, appended as services would."""

    def __init__(self, config, dsn):
        self.config, self.dsn = config, dsn
        self.address = ""
        self._writers = {}
        self._said = {}
        self._beats = 0
        self._began_us = time.time_ns() // 1000
        self._lock = threading.Lock()

    def append(self, *messages, partition="0", channel=None):
        """Append messages to their channels, for the relay to find."""
        for message in messages:
            name = channel or schema_of(type(message.header)).channel
            key = (name, partition)
            if key not in self._writers:
                options = self.config.journal.writer_options(name)
                self._writers[key] = JournalWriter(self.config.journal_directory / name / partition, **options)
            self._writers[key].append(encode(message))

    def store(self, *messages):
        """Put into the store what the dumper would."""
        places = {}
        records = []
        for message in messages:
            channel = schema_of(type(message.header)).channel
            seq = places[channel] = places.get(channel, -1) + 1
            records.append(rows_of(mesh.place(channel, seq), message))

        async def write():
            async with open_database(self.dsn) as database, database.connection() as con:
                await store_batch(con, f"night-{time.monotonic_ns()}", records)

        run_blocking(write)

    def report(self, service, **more):
        """Let a service report so from now on, as if it were this process."""
        with self._lock:
            self._said[service] = more
            self._report(service)

    def heartbeats(self, stop):
        """Let all services report again and again, until told to stop."""
        while not stop.wait(0.5):
            with self._lock:
                for service, said in self._said.items():
                    if said.get("state") != "stopped":
                        self._report(service)

    def _report(self, service):
        now = time.time_ns() // 1000
        self._beats += 1
        said = report(
            service, pid=os.getpid(), started_us=self._began_us, **{"done": self._beats, **self._said[service]}
        )
        for field, value in (("t_us", now), ("host", socket.gethostname())):
            setattr(said, field, value)
        said.id = record_id(now, "trapline.status", service.encode())
        self.append(Message(said), partition=f"{service}-0")

    def get(self, path, **headers):
        """Return status and body of a request."""
        return self.request("GET", path, None, **headers)

    def request(self, method, path, body, **headers):
        """Return status and body of a request with this body."""
        where = urlsplit(self.address)
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def close(self):
        """Close the journals."""
        for writer in self._writers.values():
            writer.close()


def image_message(number, **changes):
    """Return an image with one bright source in its middle."""
    of = mesh.image(number, wcs=wcs_of_field(), shape=(SIDE, SIDE), radius_deg=20.0, **changes)
    rng = np.random.default_rng(number)
    y, x = np.indices((SIDE, SIDE))
    pixels = rng.normal(0, 1, (SIDE, SIDE)) + 40 * np.exp(-((x - 48) ** 2 + (y - 48) ** 2) / 8)
    return Message(Images(schema="trapline.images/1.0", id=of.id, image=of), {"pixels": pixels.astype(np.float32)})


def sources_message(number, n=5):
    """Return the sources of an image."""
    of = mesh.image(number, wcs=wcs_of_field(), shape=(SIDE, SIDE))
    columns = COLUMNS.empty(n)
    for name in ("x", "y", "ra_deg", "dec_deg", "flux_peak", "flux_int", "flux_int_err", "snr"):
        columns[name] = np.linspace(20, 70, n).astype(columns[name].dtype)
    header = Sources(
        schema="trapline.sources/1.0", id=record_id(0, "trapline.sources", of.id), image=of, rms_min=1.0, rms_max=1.0,
        detection_threshold=8.0, analysis_threshold=3.0,
    )  # fmt: skip
    return Message(header, columns)


def event_message(number, object_id, **changes):
    """Return an event with the lightcurve up to it."""
    message = mesh.event(number, object_id, opening=number, **changes)
    columns = RECENT.select(RECENT.empty(12))
    columns["t_us"] = message.header.t_us - np.arange(12)[::-1] * mesh.STEP_US
    columns["flux_int"] = np.linspace(2, 12, 12)
    columns["flux_int_err"] = np.full(12, 0.5)
    return Message(message.header, RECENT.prefixed(columns))


def fill(night, images=8, objects=40):
    """Put a night into journals and store: images, sources, lightcurves, transients, one bad image."""
    known = mesh.object_ids(objects)
    pictures = [image_message(i) for i in range(images)]
    curves = [mesh.lightcurves_message(i, known, kind=Kind.FORCED if i == 3 else Kind.BLIND) for i in range(images)]
    events = [event_message(i, known[i], significance=7.0 + i, kind="flare" if i % 2 else "fade") for i in range(4)]
    night.append(*pictures, *[sources_message(i) for i in range(images)], *curves, *events)
    night.store(*[Message(p.header) for p in pictures], mesh.rejected(1), *curves, *[Message(e.header) for e in events])
    for service in SERVICES:
        night.report(service)
    return known


@contextlib.contextmanager
def running_night(directory: Path, dsn: str, **dashboard) -> Iterator[Night]:
    """Run a relay and a dashboard while the block lasts."""
    config = mesh_config(directory, database={"dsn": dsn})
    (directory / "log").mkdir(parents=True, exist_ok=True)
    night = Night(config, dsn)
    with running_relay(config):
        stop = threading.Event()
        beating = threading.Thread(target=night.heartbeats, args=(stop,), name="heartbeats")
        beating.start()
        try:
            with running_dashboard(directory, dsn, **dashboard) as (process, address):
                night.address, night.process = address, process
                yield night
        finally:
            stop.set()
            beating.join()
            night.close()


@contextlib.contextmanager
def running_dashboard(directory: Path, dsn: str, **settings):
    """Run the dashboard as a process; yield it and its address."""
    own = {
        "mesh": {"data_directory": str(directory)},
        "database": {"dsn": dsn},
        "source_extractor": {"replicas": 1},
        "dashboard": {"port": 0, "tick_s": 0.1, **settings},
    }
    env = environment(child_environment(own))
    path = directory / "dashboard.address"
    path.unlink(missing_ok=True)
    with (directory / "log" / "dashboard-0.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "trapline.dashboard"], env=env, stdout=log, stderr=log)
        try:
            yield process, wait_for(lambda: path.exists() and path.read_text().strip(), what="the dashboard")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
