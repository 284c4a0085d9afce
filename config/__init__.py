"""Settings, errors, logs, the pipeline record and the SQL migrations: what every other package builds on."""
