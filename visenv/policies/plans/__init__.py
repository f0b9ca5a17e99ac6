"""What the policies ``scripted``, ``single`` and ``oracle`` do in environments with tasks of their own."""
