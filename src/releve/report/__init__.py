"""Report pages: one HTML file each, with everything inside, for the screen, the phone and paper."""
