"""Schemas, records and the codec between bytes and records: the words that upstream, worker and sinks share."""
