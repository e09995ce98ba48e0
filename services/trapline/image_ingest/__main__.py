"""`python -m trapline.image_ingest` runs one replica."""

from trapline.common.runtime.daemon import main
from trapline.image_ingest.service import SERVICE

raise SystemExit(main(SERVICE))
