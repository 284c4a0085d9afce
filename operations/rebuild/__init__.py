"""`wallet rebuild`: the ledger built anew beside the live one, compared with it, switched to or thrown away."""
