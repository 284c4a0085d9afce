"""`wallet import`: load an existing ledger with its own dates through the same pipeline."""
