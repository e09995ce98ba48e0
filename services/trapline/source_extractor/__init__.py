"""Finds and measures sources: `images` in, `sources` out."""
