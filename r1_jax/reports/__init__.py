"""Floor 2: run directories in, pictures and tables out; needs no accelerator.

Lives here: the emergence report (paper Figures 2 and 3): runs read and grouped (runs), curves over
steps and seeds (curves), what is shown (figures) and how (plot, page, markup, style), base against
trained (summary), one prompt through training (completions), all of it written (emergence). A
sweep's cells compared (ablations, ablations_page), paired over seeds and problems (paired).
The band of a fresh seed and the check against it (band).
May import: core, text, metrics.
Never touches: models, checkpoints' arrays, jax devices.
"""
