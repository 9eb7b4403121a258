"""Tests of what docs/operations.md says about buckets; see also test_hosts.py."""

import json
import os

import boto3
import pytest

from tests.checkout import copy_project, new_repository, use_environment
from tests.docs import Terminal, blocks, files
from tests.e2e_cloud.servers import running_store

TRAIN = """python -c '
from src.training.pipeline import run_training_pipeline
run_training_pipeline("configs/training/mistral_finetune.yaml", "model_v1")
'
"""


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    with running_store("ministack", folder) as store:
        yield store


def test_a_root_is_moved_to_a_bucket(store, tmp_path):
    project = use_environment(new_repository(copy_project(tmp_path / "project")))
    variables = {**store.variables, "BUCKET": "bucket"}
    terminal = Terminal(project, code=project, variables=variables)
    [block] = [each for each in blocks("operations.md") if each.title == "With a bucket"]
    try:
        terminal.run(TRAIN)
        output = terminal.run(block.text)
        terminal.end()
    finally:
        terminal.kill()
    assert "MATCH     model_v1" in output
    assert output.splitlines()[-1] == "0 unfinished uploads, 0 aborted."


def test_the_lifecycle_rule_is_valid(store, monkeypatch):
    for name, value in store.variables.items():
        monkeypatch.setenv(name, value)
    rules = json.loads(files("operations.md")["lifecycle.json"])
    client = boto3.client("s3", region_name=os.environ["AWS_REGION"])
    client.put_bucket_lifecycle_configuration(Bucket="bucket", LifecycleConfiguration=rules)


def test_the_policy_allows_to_delete_nothing_but_the_file_of_a_probe():
    policy = json.loads(files("operations.md")["policy.json"])
    allowed = {each["Resource"]: each["Action"] for each in policy["Statement"]}
    assert {each["Effect"] for each in policy["Statement"]} == {"Allow"}
    assert allowed == {
        "arn:aws:s3:::BUCKET": ["s3:ListBucket"],
        "arn:aws:s3:::BUCKET/PREFIX/*": [
            "s3:GetObject",
            "s3:PutObject",
            "s3:AbortMultipartUpload",
        ],
        "arn:aws:s3:::BUCKET/PREFIX/.probe/*": ["s3:DeleteObject"],
    }
