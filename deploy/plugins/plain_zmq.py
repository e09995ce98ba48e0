"""Follow a channel with pyzmq and msgpack alone: all that a client in any language needs.

python deploy/plugins/plain_zmq.py [ADDRESS] [CHANNEL] [FROM]

A request is one frame, a msgpack map. The answer is a map, then one buffer for each entry of its "slabs". A slab lists
records as [seq, epoch, time_us, offset, length, offset, length, ...]: where in the buffer the frames of a record are.
The first frame of a record is its header, a msgpack map; its "frames" name the arrays that the other frames hold.
"""

import itertools
import sys

import msgpack
import zmq

address = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7400"
channel = sys.argv[2] if len(sys.argv) > 2 else "transients"
start = sys.argv[3] if len(sys.argv) > 3 else "first"

socket = zmq.Context().socket(zmq.DEALER)
socket.connect(address)
ids = itertools.count(1)


def ask(**request):
    """Send a request, and return its answer: a map and the buffers behind it."""
    number = next(ids)
    socket.send(msgpack.packb({"v": 1, "id": number, **request}))
    while True:
        header, *buffers = socket.recv_multipart()
        answer = msgpack.unpackb(header)
        if answer["id"] == number:
            if not answer["ok"]:
                raise SystemExit(answer["error"])
            return answer, buffers


cursors = {}
catalogue = None
while True:
    if catalogue is None:
        answer, _ = ask(op="info")
        catalogue = answer["catalogue"]
        for p in answer["partitions"]:
            if p["channel"] == channel:
                seq = p["first_seq"] if start == "first" else p["next_seq"]
                cursors.setdefault(p["partition"], {"channel": channel, "partition": p["partition"], "seq": seq})
    answer, buffers = ask(op="fetch", cursors=list(cursors.values()), wait_ms=1000, catalogue=catalogue)
    for slab, buffer in zip(answer["slabs"], buffers, strict=True):
        for seq, epoch, _, *spans in slab["records"]:
            frames = [buffer[o : o + n] for o, n in zip(spans[::2], spans[1::2], strict=True)]
            header = msgpack.unpackb(frames[0])
            arrays = {
                f["name"]: (f["dtype"], f["shape"], data) for f, data in zip(header["frames"], frames[1:], strict=True)
            }
            print(slab["partition"], seq, header["schema"], header.get("kind", ""), len(arrays), "arrays", flush=True)
            cursors[slab["partition"]] = {
                "channel": channel,
                "partition": slab["partition"],
                "seq": seq + 1,
                "epoch": epoch,
            }
    if answer["catalogue"] != catalogue:
        catalogue, start = None, "first"
