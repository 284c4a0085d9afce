"""Consumers that write the topics to PostgreSQL: rows and position in one transaction."""
