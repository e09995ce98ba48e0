"""`python -m trapline.common.relay` runs the relay of this host."""

import sys

from trapline.common.relay.process import RELAY
from trapline.common.runtime.daemon import main

sys.exit(main(RELAY))
