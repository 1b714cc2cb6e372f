"""What a person looks at when a sweep is over, or while it runs: text, tables, figures and a page."""
