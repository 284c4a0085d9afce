"""Every released version of the transaction schema."""
