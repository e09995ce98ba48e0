"""Fixtures for all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from trapline.common.postgres.binaries import available_binaries
from trapline.common.postgres.cluster import Cluster
from trapline.common.testing.postgres import fresh_database, temporary_cluster

_KINDS = ("wheel", "system")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the tests in the background ignores Ctrl-C, also for the processes that are started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """The server that is used where no other is given."""
    with temporary_cluster() as cluster:
        yield cluster


@pytest.fixture
def dsn(postgres: Cluster) -> Iterator[str]:
    """A fresh database with all tables."""
    with fresh_database(postgres) as address:
        yield address


@pytest.fixture(scope="session", params=_KINDS)
def any_postgres(request: pytest.FixtureRequest, postgres: Cluster) -> Iterator[Cluster]:
    """Each kind of server in turn: that of the wheel, and the system's."""
    if request.param == postgres.binaries.origin:
        yield postgres
        return
    if not list(available_binaries(request.param)):
        pytest.skip(f"no PostgreSQL of the {request.param} on this machine")
    with temporary_cluster(request.param) as cluster:
        yield cluster


@pytest.fixture
def any_dsn(any_postgres: Cluster) -> Iterator[str]:
    """A fresh database with all tables, on each kind of server."""
    with fresh_database(any_postgres) as address:
        yield address
