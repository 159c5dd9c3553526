"""Full Bayes of a small clinic by NUTS: writes metagenomics_nuts.json.

    python metagenomics_nuts.py CLINIC.csv OUT.json

CLINIC.csv has a row a library: batch, is_control, rate (spike reads over spiked mass, the median
patient 1), and a column of reads a taxon. Presence is summed over, masses are sampled. Needs
numpyro (written with 0.22 and jax 0.10).
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
from jax.scipy.special import gammaln
from numpyro.infer import MCMC, NUTS


def log_density(y, mu, size):
    return (
        gammaln(y + size) - gammaln(size) - gammaln(y + 1)
        + y * (jnp.log(mu) - jnp.log(mu + size)) - size * jnp.log1p(mu / size)
    )  # fmt: skip


def model(y, batch, control, rate):
    n, n_taxa = y.shape
    n_batches = int(batch.max()) + 1
    mean = numpyro.sample("mean", dist.Normal(-1.0, 2.0))
    sd = numpyro.sample("sd", dist.HalfNormal(2.5))
    step = numpyro.sample("step", dist.HalfNormal(1.0))
    library_sd = numpyro.sample("library_sd", dist.HalfNormal(0.3))
    size = jnp.exp(numpyro.sample("log_size", dist.Normal(np.log(1.5), 0.5)))
    prevalence = numpyro.sample("prevalence", dist.Beta(2.0, 100.0))
    mass_mean = numpyro.sample("mass_mean", dist.Normal(np.log(50.0), 1.5))
    mass_sd = numpyro.sample("mass_sd", dist.HalfNormal(2.0))
    eta = numpyro.sample("eta", dist.Normal(0.0, 1.0).expand([n_taxa]))
    u = numpyro.sample("u", dist.Normal(0.0, 1.0).expand([n_batches, n_taxa]))
    d = numpyro.sample("d", dist.Normal(0.0, 1.0).expand([n]))
    a = numpyro.sample("a", dist.Normal(0.0, 1.0).expand([n, n_taxa]))
    log_kappa = mean + sd * eta + step * u[batch] + library_sd * d[:, None]
    back = rate[:, None] * jnp.exp(log_kappa)
    more = rate[:, None] * jnp.exp(mass_mean + mass_sd * a)
    absent = log_density(y, back, size)
    present = log_density(y, back + more, size)
    pi = jnp.where(control[:, None], 0.0, prevalence)
    with_it = jnp.log(jnp.maximum(pi, 1e-30)) + present
    without = jnp.log1p(-pi) + absent
    both = jnp.logaddexp(with_it, without)
    numpyro.factor("reads", both.sum())
    numpyro.deterministic("probability", jnp.exp(with_it - both))


def main(source, target):
    table = pd.read_csv(source)
    taxa = [name for name in table.columns if name.startswith("taxon")]
    given = (
        table[taxa].to_numpy(float), pd.factorize(table["batch"])[0],
        table["is_control"].to_numpy(bool), table["rate"].to_numpy(float),
    )  # fmt: skip
    chains = MCMC(
        NUTS(model, target_accept_prob=0.9, max_tree_depth=8), num_warmup=600, num_samples=1200,
        progress_bar=False,
    )  # fmt: skip
    chains.run(jax.random.PRNGKey(1), *given)
    draws = chains.get_samples()
    out = {
        "made by": f"numpyro {numpyro.__version__}, jax {jax.__version__}",
        "divergences": int(chains.get_extra_fields()["diverging"].sum()),
        "probability": np.asarray(draws["probability"]).mean(axis=0).round(5).tolist(),
        **{name: [float(draws[name].mean()), float(draws[name].std())]
           for name in ("mean", "sd", "step", "library_sd", "log_size", "prevalence")},
    }  # fmt: skip
    with open(target, "w") as stream:
        json.dump(out, stream, indent=1)
        stream.write("\n")


if __name__ == "__main__":
    numpyro.enable_x64()
    main(*sys.argv[1:])
