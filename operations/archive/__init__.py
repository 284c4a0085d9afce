"""`wallet archive`: old months looked at, sealed and moved, and their seals checked."""
