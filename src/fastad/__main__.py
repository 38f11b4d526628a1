"""``python -m fastad`` is the command line."""

import sys

from fastad.cli import main

sys.exit(main())
