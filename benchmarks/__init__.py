"""What visenv is measured by: each module's ``run`` times it against the straightforward way."""
