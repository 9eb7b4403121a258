"""The help of `sweep`. Tests of `run` and `sweep` on a server are in tests/flows."""

SWEEP_HELP = """\
Usage: llm-train sweep [OPTIONS] [CONFIGS]...

  Train, register and evaluate one model per config, and rank the models.

  CONFIGS are files, or quoted patterns. --grid adds every combination of the
  values in FILE. Finished steps are served from the cache, so a sweep that was
  stopped continues. Exits with 1 if a config failed; the others are done.

Options:
  --grid FILE          A YAML file with lists of values to try.
  --concurrency N      Number of configs that run at the same time.  [default:
                       4; x>=1]
  --artifacts-dir DIR  The artifacts root.  [env var: LLM_TRAIN_ARTIFACTS;
                       default: artifacts]
  --json               Print JSON.
  --help               Show this message and exit.
"""


def test_the_help_of_sweep_describes_arguments_results_and_options(llm_train):
    done = llm_train("sweep", "--help")
    assert (done.exit_code, done.stdout) == (0, SWEEP_HELP)
