"""Methods made for models that answer with numbers, which comparisons of classifiers leave out.

They need targets; ``expunge bench regression`` measures them.
"""

NUMBER_METHODS = ("blindspot", "gaussian-amnesiac")
