"""What the chapters need besides the library: claims, figure styles, checkers of exercises."""
