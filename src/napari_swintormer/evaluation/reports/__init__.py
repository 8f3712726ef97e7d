"""Tables, intervals and pages of an evaluation."""
