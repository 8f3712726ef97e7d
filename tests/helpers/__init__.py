"""What several test files share: small models, images, and ways to run them."""
