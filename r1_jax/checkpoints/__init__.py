"""What is on disk: checkpoints of a run, files of weights, the manifest of a run.

May import: core, sharding. The only room that knows orbax and safetensors.
Never touches: models, losses, what a leaf means.
"""
