"""What is compared: models, classical methods, and the blurred images themselves."""
