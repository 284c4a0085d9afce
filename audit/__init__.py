"""The independent judge: it knows the contract from the schemas and the pages, not the code that it judges."""
