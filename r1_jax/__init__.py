"""DeepSeek-R1 in JAX. The folder listing is the architecture; imports go down only.

5  cli
4  pipeline
3  training      evaluation
2  data   sampling   interop   reports
1  models   text   rl   rewards   checkpoints   metrics
0  core   sharding

Rooms on one floor do not import each other: they meet upstairs, as arguments.
tests/test_floor_plan.py compares this drawing with the imports. Each room's __init__.py is its
card.
"""
