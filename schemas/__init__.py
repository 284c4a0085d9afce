"""Schemas, records and their codec: the words that upstream, worker and sinks share."""
