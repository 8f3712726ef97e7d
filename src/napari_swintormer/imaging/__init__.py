"""Images as the rest sees them: axes, planes, intensity ranges, files and result stores."""
