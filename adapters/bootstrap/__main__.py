"""``python -m adapters.bootstrap``: the command ``tallybook``."""

from adapters.bootstrap.command_line import main

if __name__ == "__main__":
    main()
