"""docs/upstream.md, done as it says, with a release of upstream that changes the code."""

import pytest

from tests.checkout import copy_project, git, new_repository, use_environment
from tests.docs import Terminal, blocks, follow
from tests.examples import written

RELEASE = "v9.0.0"
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "x"), ("EMAIL", "x@y.z"))
}


@pytest.fixture
def upstream(tmp_path):
    return new_repository(copy_project(tmp_path / "upstream"))


def test_a_clone_takes_a_release_and_keeps_its_config_its_trainer_and_its_models(
    tmp_path, upstream
):
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(upstream), str(clone))
    use_environment(clone)
    terminal = Terminal(clone, code=clone, variables=IDENTITY)
    before, outputs = {}, []
    try:
        for block, output in follow(blocks("upstream.md"), terminal, {"v<X.Y.Z>": RELEASE}):
            outputs.append(output)
            if "git remote rename" in block.text:
                before = written(clone / "artifacts")
                assert "models/team_v1/weights/weights.txt" in before
                change_code(upstream)
            if "git merge" in block.text:
                assert "# changed" in (clone / "src/digest.py").read_text()
                assert (clone / "my_team/trainer.py").exists()
        assert "\nMATCH     team_v1\n" in outputs[-1]
        terminal.end()
    finally:
        terminal.kill()
    assert written(clone / "artifacts") == before


def change_code(upstream):
    """Commit a change of the core, and tag it as a release."""
    with open(upstream / "src/digest.py", "a") as file:
        file.write("# changed\n")
    git(upstream, "commit", "--quiet", "--all", "--message", "A change")
    git(upstream, "tag", RELEASE)
