"""A fold: a service whose state follows from what it has read, in a fixed order, whatever kills it.

Its own journals are the truth about what it has said. On start it loads its last snapshot, reads its own output since
then to learn what it had decided, steps through that again without publishing anything twice, and goes live.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from trapline.common.channel import Record
from trapline.common.relay.requests import UNPINNED, Position, Read
from trapline.common.runtime.context import Context, Stopwatch
from trapline.common.runtime.dead_letters import dead_letter
from trapline.common.runtime.fold_inputs import FoldInputs
from trapline.common.runtime.hang import in_thread
from trapline.common.runtime.held import Held
from trapline.common.runtime.memoir import Memoir, read_memoir
from trapline.common.runtime.order import Order, PartitionKey, Step, pack_progress, unpack_progress
from trapline.common.runtime.outputs import disk_full
from trapline.common.runtime.publishing import publish
from trapline.common.runtime.snapshot import read_snapshot, write_snapshot
from trapline.common.runtime.stepping import SteppingNote
from trapline.schemas.columns import Array
from trapline.schemas.header import Header, Place
from trapline.schemas.message import Message
from trapline.schemas.registry import schema_of

S = TypeVar("S")

_IDLE_S = 0.1
_REPEAT_S = 1.0
_BURST_S = 0.005  # of steps before what came of them is published: others wait for it


class Fold(Protocol[S]):
    """What a service says of itself to be run as a fold. All of it is pure."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Channels read whole."""
        ...

    @property
    def reads_headers(self) -> tuple[str, ...]:
        """Channels of which the headers are enough."""
        ...

    @property
    def writes(self) -> tuple[str, ...]:
        """Channels written, first the one whose records name what was consumed."""
        ...

    def order(self) -> Order:
        """Return a new order of inputs."""
        ...

    def initial(self) -> S:
        """Return the state before the first input."""
        ...

    def step(self, state: S, inputs: Step) -> Iterable[Message[Header]]:
        """Take inputs, change the state, and return what to publish."""
        ...

    def dump(self, state: S) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
        """Return the state as plain values and arrays."""
        ...

    def load(self, header: dict[str, Any], arrays: dict[str, Array]) -> S:
        """Return the state from what `dump` returned."""
        ...

    def counters(self, state: S) -> Mapping[str, int]:
        """Return totals to report, from the state."""
        ...


class PoisonError(Exception):
    """An input that the fold could not take: its state is void, and must be made again without it."""


class DeadlyError(Exception):
    """An input that ended the process each time it was taken."""


class FoldRunner(Generic[S]):
    """Runs a fold in a process.

    Parameters
    ----------
    fold
        What is run.
    pins
        Whether the relay keeps what the last snapshot does not hold, however old. Without, a fold that was away for
        longer than its channels are kept has a gap, and nobody's disk fills up because it is stopped.
    needs
        Returns, of a state, the records that were consumed and may be wanted again by those who answer the fold.
        They are kept as if they were not safe yet.
    delay_s
        Returns for how long an output may be held back: what others wait for goes first.
    """

    def __init__(
        self,
        context: Context,
        fold: Fold[S],
        *,
        pins: bool = True,
        needs: Callable[[S], Iterable[Place]] = lambda _: (),
        delay_s: Callable[[Header], float] = lambda _: 0.0,
    ) -> None:
        self._pins = pins
        self._context = context
        self._fold = fold
        self._needs = needs
        self._held = Held(delay_s)
        self._path = Path(context.config.data_directory / "snapshots" / f"{context.name}.snapshot")
        self._in_hand = SteppingNote(self._path.with_suffix(".stepping"))
        self._saved_at = time.monotonic()
        self._safe: dict[PartitionKey, int] = {}
        self._safe_outputs: dict[str, int] = {}
        self._reported: list[Read] = []
        self._reported_at = 0.0

    async def run(self) -> None:
        """Fold until told to drain; begin again from the snapshot after an input that cannot be taken."""
        with self._in_hand:
            while not self._context.draining.is_set():
                try:
                    await self._recover()
                    await self._live()
                except PoisonError:
                    continue

    async def _recover(self) -> None:
        """Load the snapshot, and learn from the own journals what was said since."""
        fold, context = self._fold, self._context
        self._order = fold.order()
        snapshot = await asyncio.to_thread(read_snapshot, self._path)
        outputs: dict[str, int] = {}
        if snapshot:
            self._state = fold.load(snapshot.header["state"], snapshot.arrays)
            self._order.restore(unpack_progress(snapshot.header["consumed"]))
            outputs = snapshot.header["outputs"]
            context.log.info("state loaded", path=str(self._path))
        else:
            self._state = fold.initial()
        self._memoir: Memoir = await asyncio.to_thread(read_memoir, context, fold.writes, outputs)
        self._order.skip(self._memoir.poison)
        self._order.follow(self._memoir.decided)
        self._inputs = FoldInputs(context, self._order, self._memoir.poison)

    async def _live(self) -> None:
        self._inputs.start(self._fold.reads_headers, headers_only=True)
        self._inputs.start(self._fold.reads, headers_only=False)
        try:
            while not self._context.draining.is_set():
                if not await self._advance():
                    self._report()
                    await self._inputs.wait(_IDLE_S)
                if time.monotonic() - self._saved_at > self._context.config.runtime.snapshot_s:
                    await self._save()
        finally:
            await self._inputs.stop()
        await self._save()

    async def _advance(self) -> bool:
        """Take what is there, for a while; publish what comes of it; return whether there was anything."""
        limit_s = self._context.config.runtime.max_runtime_s + _BURST_S
        steps, messages, poison = await in_thread(self._burst, limit_s)
        fresh = [m for m in messages if not self._memoir.said(m.header.id)]
        if any(schema_of(type(m.header)).channel == self._fold.writes[0] for m in fresh):
            # What was said before something new and was not made again never will be.
            self._memoir.ahead.clear()
        await publish(self._context, self._held.pass_on(await self.finish(fresh)))
        while self._inputs.refused:
            await self._bury(*self._inputs.refused.popleft())
        if poison:
            await self._note_poison(*poison)
        return bool(steps)

    async def finish(self, messages: list[Message[Header]]) -> list[Message[Header]]:
        """Return outputs as they are published: a subclass may add what does not follow from the inputs alone."""
        return messages

    def _burst(self) -> tuple[int, list[Message[Header]], tuple[Step, str] | None]:
        """Step, in a thread, until there is nothing to take or the loop should have a turn."""
        messages: list[Message[Header]] = []
        steps, end = 0, time.monotonic() + _BURST_S
        while time.monotonic() < end:
            self._inputs.offer_all()
            if (step := self._order.take(time.monotonic())) is None:
                break
            try:
                messages += self._take(step)
            except Exception:  # noqa: BLE001  whatever a record does to a fold, the stream goes on
                return steps, messages, (step, traceback.format_exc())
            steps += 1
            self._context.counters["steps"] += 1
        return steps, messages, None

    def _take(self, step: Step) -> list[Message[Header]]:
        """Step, with a note of the input in hand: one that kills the process every time is given up."""
        place = step.records[-1].place
        if not step.skipped and self._in_hand.deaths(place) >= self._context.config.runtime.max_attempts:
            raise DeadlyError(f"the process died {self._in_hand.deaths(place)} times with this input in hand")
        self._in_hand.begin(place)
        try:
            with Stopwatch(self._context):
                return list(self._stamped(step, self._fold.step(self._state, step)))
        finally:
            self._in_hand.end()

    def _stamped(self, step: Step, messages: Iterable[Message[Header]]) -> Iterable[Message[Header]]:
        for message in messages:
            yield Message(msgspec.structs.replace(message.header, consumed=step.places), message.arrays)

    async def _note_poison(self, step: Step, text: str) -> None:
        culprit = step.records[-1]
        await self._bury(culprit, text)
        raise PoisonError(str(culprit.place))

    async def _bury(self, record: Record, text: str) -> None:
        """Note in the own journal of dead letters that a record cannot be taken."""
        context = self._context
        context.log.error("cannot take a record", place=str(record.place), traceback=text)
        context.last_error = text.strip().splitlines()[-1]
        await publish(context, [dead_letter(context, record, text)])
        await context.outputs.sync()

    def _report(self) -> None:
        context = self._context
        context.counters.update(
            {name: n - context.counters[name] for name, n in self._fold.counters(self._state).items()}
        )
        # Nobody shall take for done what is not said.
        first = self._held.first_inputs()
        reads = [
            Read(*key, seq=min(done.floor, first.get(key, done.floor)), safe=self._safe_seq(*key))
            for key, done in self._order.progress().items()
        ]
        reads += [
            Read(channel, context.outputs.partition(channel), seq=context.outputs.writer(channel).next_seq, safe=seq)
            for channel, seq in (self._safe_outputs.items() if self._pins else ())
        ]
        # A notice may be lost with a relay that dies: it is given again now and then.
        if reads != self._reported or time.monotonic() - self._reported_at > _REPEAT_S:
            context.connection.notify(Position(reader=context.name, reads=reads))
            self._reported, self._reported_at = reads, time.monotonic()

    def _safe_seq(self, channel: str, partition: str) -> int:
        return self._safe.get((channel, partition), 0) if self._pins else UNPINNED

    async def _save(self) -> None:
        """Write a snapshot once the outputs that it includes are synced, and tell what is no longer needed."""
        context = self._context
        # One that is not said when the state holds what made it never would be.
        await publish(context, self._held.take())
        await context.outputs.sync()
        header, arrays = self._fold.dump(self._state)
        needed = list(self._needs(self._state))
        progress = pack_progress(self._order.progress())
        outputs = {channel: context.outputs.writer(channel).next_seq for channel in self._fold.writes}
        if self._memoir.ahead:
            # The state is not yet at what was said before the restart: the next start must read that again.
            outputs = self._memoir.since
        values = {"state": dict(header), "consumed": progress, "outputs": outputs}
        try:
            await asyncio.to_thread(write_snapshot, self._path, values, arrays)
        except OSError as error:
            if not disk_full(error):
                raise
            # The last one is still there, and so is what followed: it stays pinned until there is room.
            context.counters["snapshots_failed"] += 1
            context.trouble(f"{self._path}: {error.strerror}: no snapshot until there is room")
            self._saved_at = time.monotonic()
            return
        self._safe = {(channel, partition): floor for channel, partition, floor, _ in progress}
        for place in needed:
            key = (place.channel, place.partition)
            self._safe[key] = min(self._safe.get(key, place.seq), place.seq)
        self._safe_outputs = outputs
        self._saved_at = time.monotonic()
        self._report()
