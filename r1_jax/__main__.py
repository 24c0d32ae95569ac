"""`python -m r1_jax <command>`."""

from r1_jax.cli import main

if __name__ == "__main__":
    main.main()
