"""One encoder per modality, a fusion that tolerates missing ones, a head for ten thousand species."""
