"""`wallet rebuild`: rebuild the ledger next to the live one, compare the two, then switch to it or discard it."""
