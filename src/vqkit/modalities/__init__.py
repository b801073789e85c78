"""Kinds of data: each folder alone knows its pixels, samples, characters or frames."""
