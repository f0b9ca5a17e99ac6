"""What runs inside a sandbox: standard library alone, and no module of visenv's outside of this folder."""
