"""Floor 4: rooms put together.

Lives here: ExperimentConfig (all rooms' configurations), configuration -> mesh, parameters,
functions, and one file per stage of the paper's road.
May import: floors 0-3.
Never touches: flags, the environment.
"""
