"""One module a trainer: what lets it train on the environments. Importing one imports its trainer."""
