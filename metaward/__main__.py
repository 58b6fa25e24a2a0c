"""``python -m metaward``: the command line, whatever other Python files the folder holds."""

from metaward.server.cli import main

if __name__ == "__main__":
    main()
