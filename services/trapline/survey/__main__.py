"""`python -m trapline.survey` runs one replica."""

from trapline.common.runtime.daemon import main
from trapline.survey.service import SERVICE

raise SystemExit(main(SERVICE))
