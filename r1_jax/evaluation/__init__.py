"""Floor 3: how good a policy is.

Lives here: pass@k, cons@k and their intervals, task x model -> a row and all its samples.
May import: floors 0-2.
Never touches: training, parameters' gradients, flags.
"""
