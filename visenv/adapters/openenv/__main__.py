"""``python -m visenv.adapters.openenv``."""

from visenv.adapters.openenv.app import main

if __name__ == "__main__":
    main()
