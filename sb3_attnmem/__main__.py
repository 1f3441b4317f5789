"""``python -m sb3_attnmem`` is ``sb3-attnmem``."""

import sys

from sb3_attnmem.zoo.cli import main

sys.exit(main())
