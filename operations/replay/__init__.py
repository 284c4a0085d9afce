"""`wallet replay`: read a sink's topic again, insert missing rows and compare the others."""
