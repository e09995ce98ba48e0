"""`python -m trapline.outlets` runs one replica."""

from trapline.common.runtime.daemon import main
from trapline.outlets.service import SERVICE

raise SystemExit(main(SERVICE))
