"""Takes events out of the mesh: VOEvent files, web hooks, commands. Off by default."""
