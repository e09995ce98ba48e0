"""Print what the mesh finds: the smallest useful plug-in.

python deploy/plugins/print_transients.py [ADDRESS]
"""

import sys

from trapline.client import connect

with connect(sys.argv[1] if len(sys.argv) > 1 else None) as mesh:
    for event in mesh.subscribe("transients", start="latest"):
        print(event.time, event.ra_deg, event.dec_deg, event.kind, event.significance, flush=True)
