"""Scripts that make reference values are run by hand, with packages of their own."""

collect_ignore_glob = ["reference/*"]
