"""Diaries: experience sampling and ecological momentary assessment.

`diary` is the whole analysis in one call: `occasions` reads the table (who, when, which day,
what was scheduled), `dynamics`, `memory` and `variance` hold numbers of arrays, `concerns` what an
expert would say, `pictures` and `page` what is shown, `exports` the files of the apps.
"""
