"""`python -m trapline.database_dumper` runs one replica."""

from trapline.common.runtime.daemon import main
from trapline.database_dumper.service import SERVICE

raise SystemExit(main(SERVICE))
