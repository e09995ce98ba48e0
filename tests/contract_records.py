"""Records for the contract tests: the smallest that every backend takes."""

import hashlib

import msgpack

from trapline.common.channel.record import unpack_gaps, unpack_slab
from trapline.common.relay.requests import Cursor, Fetch, Lease


def record(number, *payloads):
    """Return the frames of a record with an id of its own."""
    return [msgpack.packb({"id": hashlib.md5(b"%d" % number).digest(), "number": number}), *payloads]


async def fill(channels, count, channel="images", partition="0", payload=b""):
    return [await channels.append(channel, partition, record(i, payload)) for i in range(count)]


def number_of(item):
    return msgpack.unpackb(bytes(item.frames[0]))["number"]


async def fetch(channels, *cursors, **options):
    """Return (gaps, records) behind some cursors."""
    reply = await channels.fetch(Fetch(cursors=list(cursors), **options))
    gaps, records = [], []
    for description, data in zip(reply.values["slabs"], reply.buffers, strict=True):
        (cursor,) = [
            c for c in cursors if (c.channel, c.partition) == (description["channel"], description["partition"])
        ]
        gaps += unpack_gaps(description, cursor.seq)
        records += unpack_slab(description, data)
    return gaps, records


async def lease(channels, worker="w", group="g", names=("images",), **options):
    reply = await channels.lease(Lease(group=group, worker=worker, channels=list(names), **options))
    slabs = zip(reply.values["slabs"], reply.buffers, strict=True)
    return [found for description, data in slabs for found in unpack_slab(description, data)]


def at(seq, channel="images", partition="0"):
    return Cursor(channel, partition, seq)
