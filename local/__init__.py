"""A real Kafka and a real PostgreSQL on this machine, for the demo and the tests."""
