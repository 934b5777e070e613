"""Run the command line as ``python -m releve.cli``."""

from releve.cli import main

main()
