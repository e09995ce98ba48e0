"""The client side of channels: records, readers, group members and publishers, over a connection to a relay."""

from trapline.common.channel.connection import RelayConnection
from trapline.common.channel.interface import Channels, Connection, RelayRefusedError, RelayUnreachableError, Reply
from trapline.common.channel.lease import GroupMember
from trapline.common.channel.reader import ChannelReader, Start, parse_time_us
from trapline.common.channel.record import Gap, Record

__all__ = [
    "ChannelReader",
    "Channels",
    "Connection",
    "Gap",
    "GroupMember",
    "Record",
    "RelayConnection",
    "RelayRefusedError",
    "RelayUnreachableError",
    "Reply",
    "Start",
    "parse_time_us",
]
