"""The operators' pages: is the mesh healthy, and what did it find."""
