"""Images that training learns from: pairs, their check, patches."""
