"""`python -m trapline.simulator` runs one replica."""

from trapline.common.runtime.daemon import main
from trapline.simulator.service import SERVICE

raise SystemExit(main(SERVICE))
