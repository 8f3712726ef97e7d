"""What several widgets share: workers, looks, closing."""
