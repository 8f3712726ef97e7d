"""Networks of other projects under the contract of a restorer."""
