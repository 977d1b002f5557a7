"""`python -m paddlevid.serve` is `paddlevid-serve`."""

from paddlevid.serve.cli import main

if __name__ == "__main__":  # processes that decode import this module again
    main()
