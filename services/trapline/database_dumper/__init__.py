"""Stores what the mesh learnt: rows and read positions in one transaction."""
