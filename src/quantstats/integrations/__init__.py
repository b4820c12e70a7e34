"""quantstats as the fast backend of other frameworks: one module each, imported only by those who use it."""
