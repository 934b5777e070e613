"""A study of one's own: what its data call for where its file does not say."""
