"""Floor 5: the edge, where flags, the environment and ConfigDict end.

Lives here: the dispatcher (main) and one module per command, each with main(argv).
May import: every room.
Never touches: arithmetic.
"""
