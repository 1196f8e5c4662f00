"""Records as text for people: step summaries, the comment on a pull request, the HTML page."""
