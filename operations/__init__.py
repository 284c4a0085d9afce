"""The `wallet` command: what operators do."""
