"""Asking Kafka: clients, ends, offsets of groups, and reading a partition up to a known end in bounded memory."""
