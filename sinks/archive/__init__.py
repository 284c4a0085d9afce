"""Archive old months: complete, sealed against their topic, and moved without copying a row."""
