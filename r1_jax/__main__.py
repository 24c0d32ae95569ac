"""`python -m r1_jax <command>`."""

import os
import sys

from r1_jax.cli import main

LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def in_large_pages() -> None:
    """Starts this process anew, once, with memory in large pages, where glibc gives any.

    On a CPU each step asks for its arrays anew, and to get hold of them 4 KiB at a time is a fifth
    of an update (bench/README.md). glibc reads the wish when a process begins, and only then;
    whoever has set the variable, to whatever, is left alone.
    """
    if sys.platform == "linux" and not LARGE_PAGES.keys() & os.environ.keys():
        os.environ.update(LARGE_PAGES)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    in_large_pages()
    main.main()
