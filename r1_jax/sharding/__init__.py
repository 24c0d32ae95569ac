"""Floor 0: where arrays live.

Lives here: mesh and logical axis names with the one rules table (axes), the mesh and its activation
(mesh), abstract trees -> shardings, constraints, host rows <-> global arrays (place), the
processes of one program (hosts).
May import: jax, flax (its logical axis rules). Nothing of ours.
Never touches: what the arrays mean.
"""
