"""`wallet archive`: show, seal and move old months, and check their seals."""
