"""The independent auditor: it knows the contract from the schemas and the docs, not the code that it audits."""
