"""What a power cut took from a partition: seqs of which others have the place now, for readers and for groups."""

from __future__ import annotations

from trapline.common.relay.groups import Groups, Share
from trapline.common.relay.partitions import Partition
from trapline.common.relay.requests import Item


def void_from(reader: Partition, epoch: int, seq: int) -> int | None:
    """Return from which seq on records of an epoch are void, for somebody who read up to `seq`; None when none is."""
    if seq <= reader.next_seq and (epoch < 0 or epoch == reader.epoch):
        return None
    epochs = reader.epochs()
    end = epochs.end_of(epoch) if epoch >= 0 else None
    if end is None and seq > reader.next_seq and not epochs.in_doubt:
        # Another journal stands where this reader's was: it begins it from its start.
        return reader.first_seq
    return end


def share_of(groups: Groups, group: str, channel: str, partition: str, reader: Partition) -> Share:
    """Return a group's share of a partition, without what a power cut took from it or what was in another journal."""
    share = groups.share(group, channel, partition)
    end = void_from(reader, share.epoch, share.floor)
    if end is not None:
        share.cut(end)
    if share.epoch != reader.epoch:
        share.epoch, share.dirty = reader.epoch, True
    return share


def stands(reader: Partition, item: Item) -> bool:
    """Tell whether the record that somebody leased is there, and no other in its place."""
    void = void_from(reader, item.epoch, item.seq + 1)
    return item.seq < reader.next_seq and (void is None or item.seq < void)
