"""`python -m dnc_lightning.cli`, as torchrun needs it."""

import sys

from dnc_lightning.cli import main

sys.exit(main())
