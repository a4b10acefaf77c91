"""The other libraries, each trained by its own loop. They live in an environment of their own: `requirements.txt`."""
