"""A relay core on a bench: journals that it serves, a clock, and requests as a client would pack them."""

from pathlib import Path

import msgpack

from trapline.common.journal import JournalWriter
from trapline.common.relay.catalogue import Catalogue
from trapline.common.relay.core import RelayCore
from trapline.common.relay.memory import RelayMemory
from trapline.common.relay.publishing import RemoteWriters
from trapline.common.security.trust import TrustList

PEER = b"peer"


class Bench:
    """A relay core, the journals that it serves, and a clock."""

    def __init__(self, root: Path, trusted: TrustList | None = None) -> None:
        self.root = root
        self.trusted = trusted
        self.now = 0.0
        self.writers: dict[str, JournalWriter] = {}
        self.start()

    def start(self):
        memory = RelayMemory(self.root / "relay.sqlite")
        self.core = RelayCore(
            Catalogue(self.root / "journal"),
            RemoteWriters(self.root / "journal", lambda _, path: JournalWriter(path)),
            memory,
            lease_s=3.0,
            trusted=self.trusted,
        )

    def restart(self):
        self.core.close()
        self.start()

    def append(self, name, *payloads, segment_bytes=1 << 16):
        if name not in self.writers:
            self.writers[name] = JournalWriter(self.root / "journal" / name, segment_bytes=segment_bytes)
        self.writers[name].append_many([[b"head %d" % i, bytes(p)] for i, p in enumerate(payloads)])

    def ask(self, *body, peer=PEER, who=None, **request):
        """Send a request and return its answer, or None when it waits."""
        frames = [msgpack.packb({"id": 1, **request}), *body]
        return self.first(self.core.handle(peer, frames, self.now, who))

    def later(self, seconds=0.0, *, poll=True):
        self.now += seconds
        return self.first(self.core.advance(self.now, poll=poll))

    @staticmethod
    def first(answers):
        answers = list(answers)
        if not answers:
            return None
        _, (header, *buffers) = answers[0]
        return Answer(msgpack.unpackb(header), buffers)

    def lease(self, worker="w1", group="g", channels=("images",), **more):
        return self.ask(op="lease", group=group, worker=worker, channels=list(channels), **more)

    def close(self):
        self.core.close()
        for writer in self.writers.values():
            writer.close()


class Answer:
    def __init__(self, values, buffers):
        self.values, self.buffers = values, buffers

    @property
    def seqs(self):
        return [record[0] for slab in self.values["slabs"] for record in slab["records"]]

    def frames(self):
        return [
            [bytes(data[o : o + n]) for o, n in zip(spans[::2], spans[1::2], strict=True)]
            for slab, data in zip(self.values["slabs"], self.buffers, strict=True)
            for _, _, _, *spans in slab["records"]
        ]


def cursor(seq=0, epoch=-1, channel="images", partition="0"):
    return {"channel": channel, "partition": partition, "seq": seq, "epoch": epoch}


def item(seq, channel="images", partition="0"):
    return {"channel": channel, "partition": partition, "seq": seq}
