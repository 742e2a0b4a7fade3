"""`python -m tinydefects` is the tinydefects command."""

from tinydefects.cli import main

main()
