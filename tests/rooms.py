"""The packages of the application, which tests of the whole house walk through."""

ROOMS = (
    "config",
    "schemas",
    "topics",
    "vitals",
    "streams",
    "sinks",
    "audit",
    "console",
    "operations",
    "local",
)
