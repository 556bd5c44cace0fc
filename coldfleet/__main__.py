"""``python -m coldfleet`` is the command ``coldfleet``."""

from coldfleet.cluster.commands.cli import main

if __name__ == "__main__":
    main()
