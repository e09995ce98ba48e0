"""`python -m trapline.transient_finder` runs one replica."""

from trapline.common.runtime.daemon import main
from trapline.transient_finder.service import SERVICE

raise SystemExit(main(SERVICE))
