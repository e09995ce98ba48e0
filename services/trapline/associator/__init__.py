"""Joins sources to objects: `images` and `sources` in, `lightcurves` out."""
