"""How often importances name the right parameter, depending on the number of completed trials.

    python -m tests.benchmarks.importances

The searches consist of random points. The score is quadratic in each parameter, steepest in the first and half as steep in the
second, with noise of 0.1. Counted is how often Optuna's fANOVA ranks the first parameter first. Takes two minutes.
"""

import random
import warnings

import optuna
import typer
from optuna.distributions import FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

DEPTHS = (4.0, 2.0)
REST = 0.5
BOTTOM, NOISE = 0.7, 0.1


def made_study(num_parameters: int, num_trials: int, seed: int) -> optuna.Study:
    """A study of random points in the unit cube."""
    draws = random.Random(seed)
    depths = [*DEPTHS, *[REST] * (num_parameters - len(DEPTHS))]
    space = {f"p{place}": FloatDistribution(0, 1) for place in range(num_parameters)}
    study = optuna.create_study(direction="maximize")
    for _ in range(num_trials):
        point = {name: draws.random() for name in space}
        value = -sum(depth * (x - BOTTOM) ** 2 for depth, x in zip(depths, point.values(), strict=True))
        study.add_trial(create_trial(params=point, distributions=dict(space), value=value + draws.gauss(0, NOISE)))
    return study


def main(num_searches: int = 24) -> None:
    """Print one line for each number of parameters and trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    for num_parameters in (4, 9):
        for num_trials in (6, 8, 10, 14, 18, 24):
            evaluator = FanovaImportanceEvaluator(seed=0)
            studies = [made_study(num_parameters, num_trials, 1000 * num_trials + search) for search in range(num_searches)]
            firsts = [next(iter(get_param_importances(study, evaluator=evaluator))) for study in studies]
            print(f"{num_parameters} parameters, {num_trials} trials: right in {firsts.count('p0')} of {num_searches}")


if __name__ == "__main__":
    typer.run(main)
