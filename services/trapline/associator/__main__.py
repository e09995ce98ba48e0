"""`python -m trapline.associator` runs one replica."""

from trapline.associator.service import SERVICE
from trapline.common.runtime.daemon import main

raise SystemExit(main(SERVICE))
