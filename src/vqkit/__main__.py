"""``python -m vqkit``."""

from vqkit.cli import main

main()
