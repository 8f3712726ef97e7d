"""Pairs, synthetic blur, and the loop that makes weights; runs on a bare GPU machine."""
