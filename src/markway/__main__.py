"""`python -m markway` is the command."""

from markway.cli import main

if __name__ == "__main__":
    main()
