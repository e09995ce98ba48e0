"""When and where transients turn on, without end, so that any frame can be asked for at any time.

Time is cut into blocks of frames. What turns on in a block is drawn from the seed and the block's number, so frame k
needs the one or two blocks that reach it and nothing of what was made before. Sources that shine at the same time are
kept apart. One that would come too close to a source still on from the block before is left out, and not drawn again:
that would need the whole past. Where a transient was, another may come later.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from trapline.common.sky import unit_vectors
from trapline.simulator.config import SimulatorConfig
from trapline.simulator.placement import Float, in_field, too_close
from trapline.simulator.sky import (
    SOURCE,
    Catalogue,
    blank_sources,
    bright,
    fixed_sources,
    is_on,
    spectral_indices,
)
from trapline.simulator.telescope import pointing_of

_TRANSIENTS = 3
"""First key after the seed: keeps these random numbers apart from all others."""


def transients_on(config: SimulatorConfig, frame: int) -> Catalogue:
    """Return the transients that shine in a frame."""
    block = frame // config.transient_block_frames
    reaching = [_block(config, b) for b in (block - 1, block) if b >= 0]
    sources = np.concatenate([np.empty(0, dtype=SOURCE), *reaching])
    return sources[is_on(sources, frame)]


def transients_until(config: SimulatorConfig, frames: int) -> Catalogue:
    """Return the transients that turn on in frames 0 to frames - 1, in the order of their names."""
    blocks = range(-(-frames // config.transient_block_frames))
    sources = np.concatenate([np.empty(0, dtype=SOURCE), *(_block(config, b) for b in blocks)])
    return sources[sources["first_frame"] < frames]


@lru_cache(maxsize=16)
def _block(config: SimulatorConfig, block: int) -> Catalogue:
    sources = _candidates(config, block)
    if block == 0 or not len(sources):
        return sources
    before = _candidates(config, block - 1)
    before = before[before["end_frame"] > block * config.transient_block_frames]
    close = too_close(config, _vectors(sources), _vectors(before))
    together: npt.NDArray[np.bool_] = sources["first_frame"][:, None] < before["end_frame"][None, :]
    kept: Catalogue = sources[~np.any(close & together, axis=1)]
    return kept


@lru_cache(maxsize=16)
def _candidates(config: SimulatorConfig, block: int) -> Catalogue:
    if config.transient_interval_s is None:
        return np.empty(0, dtype=SOURCE)
    generator = np.random.default_rng([config.seed, _TRANSIENTS, block])
    first_frames = _first_frames(config, block, generator)
    fixed = _vectors(fixed_sources(config))
    sources, n = np.zeros(len(first_frames), dtype=SOURCE), 0
    for number, frame in enumerate(first_frames):
        still_on = sources[:n][sources["end_frame"][:n] > frame]
        taken = np.concatenate([fixed, _vectors(still_on)])
        found = in_field(config, 1, generator, pointing_of(config, frame), taken)
        # Where there is no room the transient does not happen: a long run must not end for it.
        if len(found):
            sources[n : n + 1] = _turned_on(config, found, f"T{block}.{number}", frame, generator)
            n += 1
    sources = sources[:n].copy()
    sources.setflags(write=False)
    return sources


def _first_frames(config: SimulatorConfig, block: int, generator: np.random.Generator) -> list[int]:
    assert config.transient_interval_s is not None
    start, end = block * config.transient_block_frames, (block + 1) * config.transient_block_frames
    first: list[int] = []
    if block == 0:
        first.append(int(generator.integers(config.transient_first[0], config.transient_first[1] + 1)))
        start = first[0] + 1
    expected = (end - start) * config.cadence_s / config.transient_interval_s
    later = generator.integers(start, end, generator.poisson(expected))
    return first + sorted(later.tolist())


def _turned_on(
    config: SimulatorConfig, vectors: Float, name: str, frame: int, generator: np.random.Generator
) -> Catalogue:
    sources, n = blank_sources(vectors), len(vectors)
    lasting_s = generator.uniform(config.transient_min_s, config.transient_max_s)
    sources["name"], sources["kind"] = name, "transient"
    snr = bright(config.transient_snr_min, config.transient_snr_max, n, generator)
    sources["flux_jy"] = config.rms_jy_per_beam * snr
    sources["spectral_index"] = spectral_indices(config, n, generator)
    sources["first_frame"], sources["end_frame"] = frame, frame + config.whole_frames(lasting_s)
    return sources


def _vectors(sources: Catalogue) -> Float:
    return unit_vectors(sources["ra_deg"], sources["dec_deg"])
