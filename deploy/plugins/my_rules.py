"""A rule of one's own: flux that is twice that of the object so far. Name this file in `[transient_finder] plugins`."""

from trapline.transient_finder.rules import Verdict, rule


@rule("doubled", reports=("flux_int", "mean"), factor=2.0, min_points=5)
def doubled(points, thresholds):
    """Judge points against a multiple of the mean before them."""
    enough = points["n_before"] >= thresholds["min_points"]
    holds = enough & (points["flux_int"] > thresholds["factor"] * points["mean"])
    return Verdict(holds, (points["flux_int"] - points["mean"]) / points["flux_int_err"], enough)
