"""`python -m flashdd` is the command `flashdd`."""

from flashdd.cli.main import main

if __name__ == "__main__":
    main()
