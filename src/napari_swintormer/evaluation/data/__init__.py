"""The images of data sets: which files belong together, how they are read, and images made here."""
