"""Judges points as they come: `lightcurves` in, `transients` out."""
