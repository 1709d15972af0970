"""A run as a file for people or other programs: HTML, Markdown, CSV, and the leaderboard of a class.

`about`, `verdicts`, `table`, `pictures` and `timeline` say what is shown; `html`, `markdown`, `csv` and
`leaderboard` write it; `svg`, `shapes`, `axes` and `style` draw. All are pure functions of a run's files.
Whatever comes from outside (names of models, words of a server, labels) passes `words.plain` and then the
escaping of its file.
"""
