"""`wallet send`, `import` and `generate`: write transactions to the input topic."""
