"""`python -m sagajobs.cli`: the program `sagajobs`, for those who start it from its own Python."""

from sagajobs.cli import main

if __name__ == "__main__":
    main()
