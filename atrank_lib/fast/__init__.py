"""Faster steps on a CPU, put in from outside: kernels for layers and attention, updates of rows."""
