"""How the input is: per source its rate, its gaps, when it last gave an image, and why images were rejected."""

from __future__ import annotations

import statistics
from collections import Counter, deque
from dataclasses import asdict, dataclass, field

from trapline.image_ingest.stream import StreamState
from trapline.schemas.image import Image

RECENT = 32
"""images that rate and cadence are taken of"""
GAP = 1.5
"""steps of the usual cadence above which images are missing"""
SILENT = 5.0
"""steps of the usual cadence, in time of arrival, after which a source is said to be silent"""
_SHORTEST_SILENCE_S = 10.0
_COUNTS = ("images", "rejected", "repeated", "late", "gaps", "missed", "silences", "unrecorded")


@dataclass(slots=True)
class Allowance:
    """How many broken images of a stream become records: garbage may hold the beginnings of a million a second."""

    burst: float = 50.0
    per_s: float = 10.0
    _left: float = 50.0
    _at_s: float = 0.0

    def take(self, now_s: float) -> bool:
        """Return whether one more may be recorded now."""
        self._left = min(self.burst, self._left + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(slots=True)
class SourceMonitor:
    """What one source of images has given since the start: a stream, a watched directory, or the files to be read."""

    name: str
    stream: StreamState | None = None
    images: int = 0
    rejected: int = 0
    repeated: int = 0
    late: int = 0
    """older than an image that this source gave before"""
    gaps: int = 0
    """steps in observation time longer than the usual cadence"""
    missed: int = 0
    """images that would have filled these gaps"""
    longest_gap_s: float = 0.0
    silences: int = 0
    unrecorded: int = 0
    """broken images that were counted and not recorded, because they came too fast"""
    newest_start_us: int | None = None
    last_us: int | None = None
    """when the last image came"""
    reasons: Counter[str] = field(default_factory=Counter[str])
    silent: bool = False
    _late_run: int = 0
    _arrivals: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))
    _steps_us: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))

    def note(self, image: Image, now_us: int) -> None:
        """Take note of an image that was appended."""
        self.images += 1
        self.last_us = now_us
        self._arrivals.append(now_us)
        if image.quality.rejected:
            self.rejected += 1
            # An image may fail a check in several ways, and is rejected by it once.
            self.reasons.update({reason.check for reason in image.quality.reasons})
        if image.t_start_us is not None:
            self._note_start(image.t_start_us)

    def note_repeated(self) -> None:
        """Take note of an image that had been appended before."""
        self.repeated += 1

    def _note_start(self, start_us: int) -> None:
        newest = self.newest_start_us
        if newest is None or start_us > newest:
            self.newest_start_us = start_us
        if newest is None or start_us == newest:
            return
        if start_us < newest:
            self.late += 1
            self._late_run += 1
            if self._late_run >= RECENT:
                # One image from the future was wrong, not all that came after it.
                self.newest_start_us, self._late_run = start_us, 0
            return
        self._late_run = 0
        step_us, cadence_us = start_us - newest, self._cadence_us()
        if cadence_us is not None and step_us > GAP * cadence_us:
            self.gaps += 1
            self.missed += round(step_us / cadence_us) - 1
            self.longest_gap_s = max(self.longest_gap_s, step_us / 1e6)
        self._steps_us.append(step_us)

    def _cadence_us(self) -> float | None:
        return statistics.median(self._steps_us) if len(self._steps_us) >= 3 else None

    def fell_silent(self, now_us: int) -> bool:
        """Return true once when nothing has come for much longer than usual; the next image ends the silence."""
        if len(self._arrivals) < 4 or self.last_us is None:
            return False
        usual_s = (self._arrivals[-1] - self._arrivals[0]) / (len(self._arrivals) - 1) / 1e6
        was, self.silent = self.silent, now_us - self.last_us > 1e6 * max(SILENT * usual_s, _SHORTEST_SILENCE_S)
        begins = self.silent and not was
        self.silences += begins
        return begins

    def rate_hz(self, now_us: int) -> float:
        """Return images per second over the last of them, which falls while none comes."""
        if len(self._arrivals) < 2:
            return 0.0
        span_s = (max(now_us, self._arrivals[-1]) - self._arrivals[0]) / 1e6
        return (len(self._arrivals) - 1) / span_s if span_s > 0 else 0.0

    def report(self, now_us: int) -> dict[str, float]:
        """Return everything by name, for `status` and metrics; times in microseconds since 1970-01-01 UTC."""
        values: dict[str, float] = {name: getattr(self, name) for name in (*_COUNTS, "longest_gap_s")}
        values |= {"silent": float(self.silent), "rate_hz": self.rate_hz(now_us)}
        cadence_us = self._cadence_us()
        if cadence_us is not None:
            values["cadence_s"] = cadence_us / 1e6
        if self.last_us is not None:
            values["last_us"] = self.last_us
        if self.newest_start_us is not None:
            values["newest_start_us"] = self.newest_start_us
        values |= {f"rejected_{check}": count for check, count in sorted(self.reasons.items())}
        if self.stream is not None:
            values |= {f"stream_{name}": value for name, value in asdict(self.stream.counters).items()}
            names = ("connected", "connections", "failures", "timeouts")
            values |= {name: float(getattr(self.stream, name)) for name in names}
        return {name: float(value) for name, value in values.items()}
