"""Parts that several widgets share: work in a thread, fields, styles, panels."""
