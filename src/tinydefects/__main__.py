"""`python -m tinydefects` is the tinydefects command."""

from tinydefects.cli.app import main

main()
