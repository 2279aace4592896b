"""`python -m ftlab`."""

import sys

from ftlab.cli.main import main

sys.exit(main())
