"""Plug-ins: a file with decorated functions, run with the whole runtime around it, or over what was recorded.

``declare`` has the decorators, ``messages`` makes schemas of an author's structs, ``stepping`` calls the functions;
``fold`` and ``group`` put that into the two runners of services, ``replay`` over recorded channels.
"""
