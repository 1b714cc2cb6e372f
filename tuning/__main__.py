"""``python -m tuning`` is ``cpsc-tune``."""

from tuning.cli import main

main()
