"""Official releases, read as they are published: one reader, and one row of data for each layout."""

from releve.ingest.release import Release, open_release
from releve.ingest.surveys import Occurrences, Surveys, read_occurrences, read_surveys

__all__ = ["Occurrences", "Release", "Surveys", "open_release", "read_occurrences", "read_surveys"]
