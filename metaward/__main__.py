"""The command line as ``python -m metaward``."""

from metaward.server.cli import main

if __name__ == "__main__":
    main()
