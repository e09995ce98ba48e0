"""Each contract test runs with every backend."""

import contextlib

import pytest

from contract_backends import BACKENDS


@pytest.fixture(params=BACKENDS)
def backend(request):
    return BACKENDS[request.param]


@pytest.fixture
async def connect(backend, tmp_path):
    """Return a function that makes another client of the same channels."""
    async with contextlib.AsyncExitStack() as stack:
        make = stack.enter_context(backend(tmp_path, 0.5))

        async def connect():
            return await stack.enter_async_context(make())

        yield connect


@pytest.fixture
async def channels(connect):
    return await connect()
