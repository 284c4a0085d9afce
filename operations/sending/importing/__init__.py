"""`wallet import`: an existing ledger with its own dates, loaded through the same pipeline."""
