"""`python -m trapline.source_extractor` runs one replica."""

from trapline.common.runtime.daemon import main
from trapline.source_extractor.service import SERVICE

raise SystemExit(main(SERVICE))
