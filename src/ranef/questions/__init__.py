"""Questions asked of a fit, one room each: numbers, public function, answer, words, picture.

No room imports another (`papers`, which lays the answers of others side by side, excepted).
The files of numbers in a room see arrays only: they import neither `fits`, `display`,
`tables` nor `api`.
"""
