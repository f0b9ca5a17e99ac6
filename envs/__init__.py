"""The environments: one module a family of ids."""
