"""``python -m visenv``: the command line."""

from visenv.cli import main

if __name__ == "__main__":
    main()
