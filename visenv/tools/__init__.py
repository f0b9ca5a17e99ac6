"""What an agent may call: cheap, deterministic code over the workspace, and named sets of it."""
