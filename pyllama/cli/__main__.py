"""``python -m pyllama.cli``."""

import sys

from pyllama.cli import main

sys.exit(main())
