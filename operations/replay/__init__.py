"""`wallet replay`: a sink's records once more, compared with the rows that are there."""
