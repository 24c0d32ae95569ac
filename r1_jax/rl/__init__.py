"""Floor 1: formulas, arrays in and arrays out.

Lives here: advantages, KL estimators, clipped objectives and their aggregation, diagnostics.
May import: core. Takes plain keyword arguments.
Never touches: a model, a tokenizer, a configuration, a file.
"""
