"""The commands of `trapline`, by what they look at."""
