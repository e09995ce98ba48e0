"""`python -m trapline.dashboard` runs one replica."""

from trapline.common.runtime.daemon import main
from trapline.dashboard.service import SERVICE

raise SystemExit(main(SERVICE))
