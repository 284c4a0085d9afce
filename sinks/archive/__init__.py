"""Old months: complete, sealed beside their topic, and moved without copying a row."""
