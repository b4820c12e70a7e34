"""``python -m quantstats.cli`` is ``quantstats``."""

from quantstats.cli import main

main()
