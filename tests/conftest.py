"""For all tests: hypothesis holds nothing to a time. Two busy cores would fail what is right."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
