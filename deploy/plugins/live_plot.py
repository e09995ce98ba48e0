"""Draw lightcurves as they grow, in a terminal or a notebook.

python deploy/plugins/live_plot.py [--address tcp://relay-host:7400] [--object ID] [--band NAME] [--since first]

Without an object the one of the newest transient is drawn. In a notebook:

    from IPython.display import clear_output
    from live_plot import frames
    with connect("tcp://relay-host:7400") as mesh:
        for text in frames(mesh):
            clear_output(wait=True)
            print(text)
"""

import argparse
import shutil
import sys
from collections import defaultdict, deque

import numpy as np

from trapline.client import connect
from trapline.common.ids import parse_id, text_id

POINTS = 500  # that are kept of an object and band
OBJECTS = 5000  # that are kept at all, so that a transient's past is there when it is announced
BRAILLE = 0x2800
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # of a cell of 4 x 2


def frames(mesh, *, chosen=None, band=None, start="first", width=78, height=16):
    """Yield a drawing each time that the object which is drawn has a new point.

    Parameters
    ----------
    mesh
        From `connect`.
    chosen
        Id of an object, 16 bytes; without one, that of the newest transient.
    band
        Name of a band; without one, all in one drawing.
    """
    curves, names = defaultdict(lambda: deque(maxlen=POINTS)), {}
    follows = chosen is None
    for event in mesh.subscribe("lightcurves", "transients", start=start, band=band):
        if event.place.channel == "transients":
            names[event.object_id] = f"{event.kind} {event.significance:.1f} sigma"
            chosen = event.object_id if follows else chosen
        else:
            remember(curves, event)
        if curves.get(chosen):
            title = f"{text_id(chosen)}  {names.get(chosen, '')}"
            yield draw(*np.array(curves[chosen]).T, title=title, width=width, height=height)


def remember(curves, event):
    """Keep the measured points of a record, and forget the objects that came first when there are too many."""
    if event.image is None:
        return
    for key, flux, error in zip(event["object_id"], event["flux_int"], event["flux_int_err"], strict=True):
        if np.isfinite(flux):
            curves[key.tobytes()].append((event.t_us / 1e6, flux, error))
    while len(curves) > OBJECTS:
        del curves[next(iter(curves))]


def draw(times_s, fluxes, errors, *, title="", width=78, height=16):
    """Return a lightcurve as text: a column of dots from flux - error to flux + error for each point.

    Parameters
    ----------
    times_s, fluxes, errors
        One value for each point; seconds, and any unit.
    width, height
        In characters, the axes included.
    """
    order = np.argsort(times_s, kind="stable")  # what was measured afterwards comes late
    times_s, fluxes, errors = times_s[order], fluxes[order], errors[order]
    label = 11
    columns, rows = 2 * (width - label), 4 * (height - 2)
    low, high = np.min(fluxes - errors), np.max(fluxes + errors)
    span_s, span = np.ptp(times_s) or 1.0, (high - low) or 1.0
    dots = np.zeros((rows, columns), bool)
    x = np.round((times_s - times_s.min()) / span_s * (columns - 1)).astype(int)
    top, bottom = ((high - f) / span * (rows - 1) for f in (fluxes + errors, fluxes - errors))
    for column, first, last in zip(x, top, bottom, strict=True):
        dots[round(first) : round(last) + 1, column] = True
    lines = ["".join(chr(BRAILLE + code) for code in line) for line in cells(dots)]
    labels = {0: high, len(lines) // 2: (high + low) / 2, len(lines) - 1: low}
    body = [f"{labels[i]:10.4g} " if i in labels else " " * label for i in range(len(lines))]
    axis = f"{' ' * label}{len(times_s)} points over {np.ptp(times_s):.3g} s, last {fluxes[-1]:.4g} ± {errors[-1]:.2g}"
    return "\n".join([title, *(a + b for a, b in zip(body, lines, strict=True)), axis])


def cells(dots):
    """Return braille codes of (4 n, 2 m) dots, shape (n, m)."""
    n, m = dots.shape[0] // 4, dots.shape[1] // 2
    return (dots.reshape(n, 4, m, 2) * DOTS[None, :, None, :]).sum(axis=(1, 3))


def main():
    """Draw until interrupted: in place on a terminal, one after the other elsewhere."""
    parser = argparse.ArgumentParser(description="draw lightcurves as they grow")
    parser.add_argument("--address", help="of a relay; without it that of the configuration here")
    parser.add_argument("--object", type=parse_id, help="id of the object; without it the newest transient's")
    parser.add_argument("--band", help="name of a band")
    parser.add_argument("--since", default="first", help="first, latest, or a UTC time")
    options = parser.parse_args()
    size = shutil.get_terminal_size((80, 20))
    with connect(options.address) as mesh:
        drawings = frames(
            mesh,
            chosen=options.object,
            band=options.band,
            start=options.since,
            width=size.columns - 2,
            height=min(size.lines - 3, 24),
        )
        for text in drawings:
            print("\033[H\033[J" + text if sys.stdout.isatty() else text, flush=True)


if __name__ == "__main__":
    main()
