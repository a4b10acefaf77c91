"""Tables, figures and searches of the book, as records in results/: `python -m experiments`."""
