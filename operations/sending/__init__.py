"""`wallet send`, `import` and `generate`: transactions into the input topic."""
