"""Takes what telescopes send, from sockets and files, and appends it to the channel `images`."""
