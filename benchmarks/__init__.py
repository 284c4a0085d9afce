"""Measurements: what the pipeline costs, beside plain Faust, on the machine that runs them."""
