"""``knexa`` and ``python -m knexa``; tiny, so that it starts fast."""

from knexa.cli.commands import main

if __name__ == "__main__":
    main()
