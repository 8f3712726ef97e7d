"""How close a restored image is to its sharp reference."""
