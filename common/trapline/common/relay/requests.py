"""What a relay can be asked, and how it answers: msgpack maps, held by these structs.

A request is one frame with a msgpack map (``append`` adds the frames of the record). The answer is one frame with a map
that repeats ``id``, then the buffers that the map refers to. ``ok`` is false in a refusal, and ``error`` says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from trapline.schemas.header import doc
from trapline.schemas.packing import pack, unpack_map

PROTOCOL = 1
MAX_REPLY_BYTES = 64 << 20
MAX_WAIT_MS = 60_000

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Seq = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class RequestError(ValueError):
    """A request that cannot be served. The text says what is wrong and what would be right."""


class Request(msgspec.Struct, kw_only=True, tag_field="op", forbid_unknown_fields=True):
    """What every request has."""

    id: Annotated[int, doc("echoed in the answer; a request without one is not answered")] = 0
    v: Annotated[int, doc("version of the protocol", ge=1, le=PROTOCOL)] = PROTOCOL


class Info(Request, tag="info"):
    """Ask what there is: partitions with their first and next seq, groups, named readers."""


class Cursor(msgspec.Struct, forbid_unknown_fields=True):
    """A place to read from: `seq` is the next record wanted, `epoch` that of the last one read."""

    channel: Name
    partition: Name
    seq: Seq
    epoch: Annotated[int, doc("-1 when nothing was read yet", ge=-1)] = -1


class Fetch(Request, tag="fetch"):
    """Ask for records behind each cursor: those that are there, or the first that come within `wait_ms`."""

    cursors: Annotated[list[Cursor], msgspec.Meta(max_length=1024)]
    max_bytes: Annotated[int, doc("bound of the answer; one record is always sent", ge=1)] = 8 << 20
    max_records: Annotated[int, doc("bound of the answer, per partition", ge=1)] = 1000
    headers_only: Annotated[bool, doc("leave out all frames but the first of each record")] = False
    wait_ms: Annotated[int, doc("how long to wait when there is nothing", ge=0, le=MAX_WAIT_MS)] = 0
    catalogue: Annotated[int | None, doc("version of the partition list that is known: a newer one ends the wait")] = (
        None
    )


class Find(Request, tag="find"):
    """Ask for the seq of the first record that was appended at or after a time."""

    channel: Name
    partition: Name
    t_us: int


class Lease(Request, tag="lease"):
    """Ask, as a worker of a group, for records that nobody has done yet."""

    group: Name
    worker: Name
    channels: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=16)]
    max_records: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    headers_only: Annotated[
        bool, doc("leave out all frames but the first: for a worker that has the journal itself")
    ] = False
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_WAIT_MS)] = 0


class Item(msgspec.Struct, forbid_unknown_fields=True):
    """A leased record."""

    channel: Name
    partition: Name
    seq: Seq
    epoch: Annotated[int, doc("of the leased record: one that took its place is another; -1 when unknown", ge=-1)] = -1


class Extend(Request, tag="extend"):
    """Keep leases, and say which records, and no others, are being handled: a death counts only against those."""

    group: Name
    worker: Name
    items: list[Item]
    handling: list[Item] = []


class Ack(Request, tag="ack"):
    """Say that records are done: they are never given out again."""

    group: Name
    items: list[Item]


class Nack(Request, tag="nack"):
    """Give records back: `failed` when a handler raised, which counts as an attempt."""

    group: Name
    items: list[Item]
    failed: bool = False
    worker: Annotated[Name | None, doc("gives back only what this worker still has; None: whoever has it")] = None
    again: Annotated[bool, doc("also what is done: a dead letter whose cause is mended is taken once more")] = False


class Leave(Request, tag="leave"):
    """Say that a worker leaves: all that it holds is given back, none of it counts as an attempt."""

    group: Name
    worker: Name


UNPINNED = (1 << 63) - 1
"""the `safe` of a reader that needs nothing kept for it"""


class Read(msgspec.Struct, forbid_unknown_fields=True):
    """How far a named reader is in a partition."""

    channel: Name
    partition: Name
    seq: Annotated[Seq, doc("next record that it will read")]
    safe: Annotated[Seq, doc("records before it are no longer needed: a snapshot or a transaction holds them")]


class Position(Request, tag="position"):
    """Tell how far a named reader is: the relay keeps what is not safe yet."""

    reader: Name
    reads: list[Read]


class Positions(Request, tag="positions"):
    """Ask how far a named reader said that it is: ``positions`` of ``channel``, ``partition``, ``seq`` and ``safe``."""

    reader: Name


class Forget(Request, tag="forget"):
    """Ask to forget a group, or a named reader: nothing is kept for it any more, and it would begin anew.

    The answer's ``forgotten`` lists ``kind`` (group or reader), ``channel`` and ``partition``. A group with workers at
    work is not forgotten.
    """

    name: Name


class Tick(Request, tag="tick"):
    """Tell that a partition has new records. Lossy and never answered."""

    channel: Name
    partition: Name


class Append(Request, tag="append"):
    """Publish a record without a journal of one's own. A record with a known id is not appended again."""

    channel: Name
    partition: Name


AnyRequest = Info | Fetch | Find | Lease | Extend | Ack | Nack | Leave | Position | Positions | Forget | Tick | Append


def parse_request(frame: bytes | memoryview) -> AnyRequest:
    """Return the request in a frame.

    Raises
    ------
    RequestError
        When it is no request; `request_id` finds out whom to answer.
    """
    try:
        request: AnyRequest = msgspec.convert(unpack_map(frame), AnyRequest)
    except (msgspec.ValidationError, ValueError) as error:
        raise RequestError(f"bad request: {error}") from None
    return request


def request_id(frame: bytes | memoryview) -> int:
    """Return the id of a request that may be malformed; 0 when it has none."""
    try:
        value = unpack_map(frame).get("id", 0)
    except ValueError:
        return 0
    return value if isinstance(value, int) else 0


def pack_request(request: Request) -> bytes:
    """Return the frame of a request."""
    return pack(msgspec.to_builtins(request))


def pack_reply(id_: int, values: dict[str, Any], buffers: Sequence[Any] = ()) -> list[Any]:
    """Return the frames of an answer."""
    return [pack({"id": id_, "ok": True, **values}), *buffers]


def pack_error(id_: int, text: str) -> list[Any]:
    """Return the frames of a refusal."""
    return [pack({"id": id_, "ok": False, "error": text})]
