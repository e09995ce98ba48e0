"""The mesh as boxes and arrows: where each box stands, and how each channel runs between them, in pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trapline.common.config import ServiceSection
from trapline.dashboard.processes import Process

WIDTH, HEIGHT = 164, 92
_GAP_X, _GAP_Y, _TOP, _LEFT = 92, 78, 72, 8
_LANE = 26


@dataclass(slots=True)
class Box:
    """A service, its replicas, and the place of its box."""

    name: str
    row: int
    column: int
    processes: Sequence[Process] = ()
    to_do: int | None = None
    note: str = ""

    @property
    def x(self) -> int:
        """Left edge."""
        return _LEFT + self.column * (WIDTH + _GAP_X)

    @property
    def y(self) -> int:
        """Upper edge."""
        return _TOP + self.row * (HEIGHT + _GAP_Y)

    @property
    def level(self) -> str:
        """The worst of its replicas; one of several that stopped does not count."""
        levels = {p.level for p in self.processes}
        return next((one for one in ("bad", "busy", "good", "off") if one in levels), "off")

    @property
    def counts(self) -> bool:
        """Whether it counts records at all."""
        return any(p.done for p in self.processes)

    @property
    def rate_hz(self) -> float:
        """Records a second of all replicas."""
        return sum(p.rate_hz for p in self.processes)


@dataclass(frozen=True, slots=True)
class Arrow:
    """A channel between two boxes, as an SVG path and the place of its label."""

    channel: str
    source: str
    target: str
    path: str
    x: float
    y: float
    anchor: str = "middle"
    rate_hz: float | None = None
    stacked: bool = False
    """whether there is room for the rate only on the other side of the arrow"""


@dataclass(slots=True)
class Diagram:
    """All boxes and arrows, and the size of the drawing."""

    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    width: int = 0
    height: int = 0


def diagram_of(
    sections: Mapping[str, ServiceSection],
    processes: Sequence[Process],
    to_do: Mapping[str, int],
    rates_hz: Mapping[str, float],
) -> Diagram:
    """Return the drawing.

    Parameters
    ----------
    sections
        The configuration of each service that should run, and so what it reads and writes.
    processes
        All that reported or should have, the relay left out.
    to_do
        Records that wait for each service.
    rates_hz
        Records a second on each channel.
    """
    boxes = {box.name: box for box in _boxes(sections, processes, to_do)}
    pairs = _pairs(sections, processes)
    entering: dict[str, int] = {}
    arrows = []
    for channel, source, target in pairs:
        if source in boxes and target in boxes and source != target:
            number = entering[target] = entering.get(target, -1) + 1
            arrows.append(_arrow(channel, boxes[source], boxes[target], number, rates_hz.get(channel)))
    right = max((box.column for box in boxes.values()), default=0)
    low = max((box.row for box in boxes.values()), default=0)
    width, height = _LEFT * 2 + right * (WIDTH + _GAP_X) + WIDTH, _TOP + low * (HEIGHT + _GAP_Y) + HEIGHT + 12
    return Diagram(list(boxes.values()), arrows, width, height)


def _boxes(sections: Mapping[str, ServiceSection], processes: Sequence[Process], to_do: Mapping[str, int]) -> list[Box]:
    stages = {name: section.stage for name, section in sections.items()}
    names = sorted({p.service for p in processes} | set(sections), key=lambda name: (stages.get(name, 9), name))
    boxes, column = [], 0
    for name in names:
        section = sections.get(name)
        sink = section is not None and bool(section.reads) and not section.writes
        place = (1, max(0, column - 1)) if sink else (0, column)
        column += not sink
        own = [p for p in processes if p.service == name]
        boxes.append(Box(name, *place, own, to_do.get(name)))
    sinks = [box for box in boxes if box.row == 1]
    boxes += [Box("store", 1, box.column + 1, box.processes[:0], note="PostgreSQL") for box in sinks[-1:]]
    return boxes


def _pairs(sections: Mapping[str, ServiceSection], processes: Sequence[Process]) -> list[tuple[str, str, str]]:
    """Return (channel, writer, reader) of every arrow, those between neighbours first."""
    writes: dict[str, set[str]] = {name: set(section.writes) for name, section in sections.items()}
    reads: dict[str, set[str]] = {name: set(section.reads) for name, section in sections.items()}
    for p in processes:
        if p.report:
            writes.setdefault(p.service, set()).update(key.partition("/")[0] for key in p.report.written)
            reads.setdefault(p.service, set()).update(r.channel for r in p.report.reading)
    hidden = {"status", "dead_letters", "schemas"}
    pairs = [(c, w, r) for w in writes for c in sorted(writes[w] - hidden) for r in reads if c in reads[r]]
    if "simulator" in sections and "image_ingest" in sections:
        pairs.insert(0, ("sockets", "simulator", "image_ingest"))
    return [*pairs, *(("rows", name, "store") for name, s in sections.items() if s.reads and not s.writes)][:40]


def _arrow(channel: str, a: Box, b: Box, number: int, rate_hz: float | None) -> Arrow:
    if a.row == b.row == 0 and b.column != a.column + 1:
        return _above(channel, a, b, number, rate_hz)
    if a.row == b.row:
        y = a.y + HEIGHT / 2
        path = f"M{a.x + WIDTH} {y}H{b.x - 3}"
        return Arrow(channel, a.name, b.name, path, (a.x + WIDTH + b.x) / 2, y - 9, "middle", rate_hz, stacked=True)
    if a.column < b.column:
        x, y = a.x + WIDTH / 2 - 18, b.y + 20 + _LANE * number
        path = f"M{x} {a.y + HEIGHT}V{y - 10}Q{x} {y} {x + 10} {y}H{b.x - 3}"
        return Arrow(channel, a.name, b.name, path, x + 14, y - 6, "start", rate_hz)
    x1 = a.x + (WIDTH / 2 if a.column == b.column else 24)
    x2 = b.x + (WIDTH / 2 if a.column == b.column else WIDTH - 24)
    y1, y2 = a.y + HEIGHT, b.y - 3
    path = f"M{x1} {y1}C{x1} {(y1 + y2) / 2} {x2} {(y1 + y2) / 2} {x2} {y2}"
    return Arrow(
        channel, a.name, b.name, path, max(x1, x2) + 8 if x1 == x2 else x1 + 8, (y1 + y2) / 2, "start", rate_hz
    )


def _above(channel: str, a: Box, b: Box, number: int, rate_hz: float | None) -> Arrow:
    """Return an arrow over the boxes: back to an earlier service, or past some."""
    back = a.column > b.column
    x1, x2 = (a.x + 40, b.x + WIDTH - 40) if back else (a.x + WIDTH - 40, b.x + 40)
    lane = _TOP - 14 - 18 * (number % 3)
    path = f"M{x1} {a.y}V{lane + 8}Q{x1} {lane} {x1 + (-8 if back else 8)} {lane}"
    path += f"H{x2 + (8 if back else -8)}Q{x2} {lane} {x2} {lane + 8}V{b.y - 3}"
    return Arrow(channel, a.name, b.name, path, (x1 + x2) / 2, lane - 4, "middle", rate_hz)
