"""Tools that execute the chapters, build the site and check both. Run as `python -m tools.<name>`."""
