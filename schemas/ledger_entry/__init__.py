"""Every released version of the ledger_entry schema."""
