// Follow a channel from Node: one JSON object a line for each record.
//
//   npm install && node transients.mjs [ADDRESS] [CHANNEL] [first|latest]
//
// `follow` is all that another program needs: it yields {place, header, arrays} for ever. A request is one frame, a
// msgpack map; the answer is a map, then one buffer for each entry of its "slabs". A slab lists records as
// [seq, epoch, time_us, offset, length, offset, length, ...]: where in the buffer the frames of a record are.

import { pathToFileURL } from "node:url";
import { decode, encode } from "@msgpack/msgpack";
import { Dealer } from "zeromq";

const WAIT_MS = 1000;
const TYPES = {
  u1: Uint8Array, u4: Uint32Array, i4: Int32Array, i8: BigInt64Array, f4: Float32Array, f8: Float64Array,
};

class Relay {
  #socket = new Dealer({ linger: 0 });
  #number = 0;

  constructor(address) {
    this.address = address;
    this.#socket.connect(address);
  }

  // Send a request, and return its answer. While the relay is away the request waits in the socket, and is sent when it
  // comes back; one that was on its way when it died is sent again.
  async ask(request) {
    for (let away = false; ; ) {
      this.#socket.receiveTimeout = WAIT_MS + 4000;
      await this.#socket.send(encode({ v: 1, id: ++this.#number, ...request }));
      try {
        for (;;) {
          const [head, ...buffers] = await this.#socket.receive();
          const answer = decode(head);
          if (answer.id !== this.#number) continue; // of a request that was given up
          if (!answer.ok) throw new Error(answer.error);
          return { answer, buffers };
        }
      } catch (error) {
        if (error.code !== "EAGAIN") throw error;
        if (!away) console.error(`no answer from the relay at ${this.address}, still asking`);
        away = true;
      }
    }
  }

  close() {
    this.#socket.close();
  }
}

// Views on the frames as the header names them: {name: {type, shape, values}}. What is not aligned is copied.
export function arraysOf(header, frames) {
  const arrays = {};
  header.frames?.forEach(({ name, dtype, shape }, i) => {
    const bytes = Uint8Array.from(frames[i]);
    arrays[name] = { type: dtype, shape, values: new TYPES[dtype](bytes.buffer) };
  });
  return arrays;
}

function* recordsOf(slab, received) {
  // A plain array, not Node's Buffer: so are the ids that are decoded from it.
  const buffer = new Uint8Array(received.buffer, received.byteOffset, received.length);
  for (const [seq, epoch, timeUs, ...spans] of slab.records) {
    const frames = [];
    for (let i = 0; i < spans.length; i += 2) frames.push(buffer.subarray(spans[i], spans[i] + spans[i + 1]));
    const place = { channel: slab.channel, partition: slab.partition, epoch, seq };
    try {
      const header = decode(frames[0]);
      yield { place, timeUs, header, arrays: arraysOf(header, frames.slice(1)) };
    } catch (error) {
      console.error(`${slab.channel}/${slab.partition} ${seq} is no message: ${error.message}`);
    }
  }
}

// Yield the records of a channel for ever, each partition in its order, from its first record or from what comes next.
export async function* follow(address, channel, start = "latest") {
  const relay = new Relay(address);
  const cursors = new Map();
  let catalogue = null;
  try {
    for (;;) {
      if (catalogue === null) {
        const { answer } = await relay.ask({ op: "info" });
        for (const p of answer.partitions.filter((p) => p.channel === channel && !cursors.has(p.partition))) {
          const seq = start === "latest" ? p.next_seq : p.first_seq;
          cursors.set(p.partition, { channel, partition: p.partition, seq, epoch: -1 });
        }
        catalogue = answer.catalogue;
        start = "first"; // a partition that appears later is read from its beginning
      }
      const request = { op: "fetch", cursors: [...cursors.values()], wait_ms: WAIT_MS, catalogue };
      const { answer, buffers } = await relay.ask(request);
      for (const [i, slab] of answer.slabs.entries()) {
        if (slab.gap) console.error(`${channel}/${slab.partition}: records from ${slab.gap[0]} to ${slab.gap[1]} are gone`);
        const epoch = slab.records.at(-1)?.[1] ?? -1;
        cursors.set(slab.partition, { channel, partition: slab.partition, seq: slab.next_seq, epoch });
        yield* recordsOf(slab, buffers[i]);
      }
      if (answer.catalogue !== catalogue) catalogue = null;
    }
  } finally {
    relay.close();
  }
}

const asText = (key, value) =>
  value instanceof Uint8Array ? Buffer.from(value).toString("hex") : typeof value === "bigint" ? Number(value) : value;

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [address = "tcp://127.0.0.1:7400", channel = "transients", start = "latest"] = process.argv.slice(2);
  for await (const { place, header, arrays } of follow(address, channel, start)) {
    const flux = arrays["recent.flux_int"];
    const line = { place, ...header, frames: Object.keys(arrays), recent_flux: flux ? [...flux.values] : undefined };
    console.log(JSON.stringify(line, asText));
  }
}
