"""What the derivatives at an optimum say: curvature, information, scores, error covariances.

Asked of an estimate: exact second derivatives of the criterion (`second_order`, `linear`,
`generalised`), the criterion with one parameter held (`profiled`), scores of clusters,
and joint covariances of errors. May import `models` and what lies below it.
"""
