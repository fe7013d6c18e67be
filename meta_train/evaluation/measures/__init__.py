"""What is measured on learning curves and final losses, as NumPy functions.

Every file has one measure: its equation, its source, and what it does with
ties, NaN, zero and negative losses. None of them knows of rows or files.

`smoothing` makes curves comparable; `speedup` compares two optimizers in
steps, `ratios` in losses; `paired` tests over seeds, with the `ties` that
`ranking` has too; `ranking` and `profile` look at many optimizers; `aggregate`
puts tasks together, and `crossed` meta-seeds too.
"""
