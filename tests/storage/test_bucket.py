"""The bucket back end, beyond the contract of every back end in test_contract.py."""

import multiprocessing
import os

import pytest

from src.digest import Digest
from src.errors import CorruptFileError
from src.storage import FileChangedError, open_file, open_path
from src.storage.objects.client import ObjectClient, ObjectInfo, StoredObject
from src.storage.objects.errors import RefusedError
from tests.object_store.fixtures import use_server

LIMIT = 1 << 20
CREDENTIALS = {"AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}


@pytest.fixture
def root(bucket):
    return open_path(f"{bucket.url}/team")


def test_a_prefix_is_not_seen_by_another_one(bucket):
    open_path(f"{bucket.url}/team").store.create("f", b"1")
    other = open_path(f"{bucket.url}/tea")
    assert (other / "f").read(LIMIT) is None
    assert list(other.files()) == []
    assert bucket.get("team/f") == b"1"


@pytest.mark.parametrize("key", ["models//v1", "models/../v1"])
def test_an_object_with_a_name_that_no_file_can_have_is_an_error_that_says_so(key, root, bucket):
    bucket.put(f"team/{key}", b"")
    with pytest.raises(RefusedError, match="has a name that no file can have"):
        list((root / "models").files())


def test_the_object_that_a_console_makes_for_a_folder_is_no_file(root, bucket):
    (root / "models/v1/metadata.json").create(b"{}")
    bucket.put("team/models/", b"")
    bucket.put("team/models/v1/", b"")
    assert [file.key for file in root.files()] == ["models/v1/metadata.json"]
    assert (root / "models").folders() == ["v1"]


def test_a_bucket_that_does_not_exist_is_an_error_and_not_an_empty_root(s3_server, bucket):
    root = open_path("s3://no-such-bucket/team")
    message = f"s3://no-such-bucket: no such bucket at {s3_server.url}."
    for read in (lambda: (root / "f").read(LIMIT), (root / "f").stat, lambda: [*root.files()]):
        with pytest.raises(RefusedError) as caught:
            read()
        assert str(caught.value).startswith(message)
    with pytest.raises(RefusedError) as caught:
        (root / "f").create(b"")
    assert str(caught.value).startswith(message)


def test_without_credentials_the_error_says_which_to_set(monkeypatch, tmp_path):
    for name in [*os.environ]:
        if name.startswith(("AWS_", "GOOGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(RefusedError, match="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"):
        (open_path("s3://bucket/team") / "f").read(LIMIT)
    with pytest.raises(RefusedError, match="Set GOOGLE_APPLICATION_CREDENTIALS, or run"):
        (open_path("gs://bucket/team") / "f").read(LIMIT)


def test_a_profile_of_the_tools_of_aws_gives_the_credentials(bucket, monkeypatch, tmp_path):
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "credentials").write_text(
        "[team]\naws_access_key_id = test\naws_secret_access_key = test\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "team")
    root = open_path(f"{bucket.url}/team")
    (root / "f").create(b"1")
    assert (root / "f").read(LIMIT) == b"1"


def test_a_server_that_does_not_answer_is_an_error_that_names_it(bucket, monkeypatch):
    monkeypatch.setattr("src.storage.objects.client.FIRST_RETRY_SECONDS", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:word@127.0.0.1:1")
    with pytest.raises(OSError, match="no complete answer from the server at http://127") as caught:
        (open_path(f"{bucket.url}/team") / "f").read(LIMIT)
    assert "word" not in str(caught.value)


def test_a_forked_process_gets_an_error_in_place_of_a_hang(root):
    (root / "f").create(b"1")
    queue = multiprocessing.get_context("fork").SimpleQueue()

    def read():
        try:
            queue.put((root / "f").read(LIMIT))
        except OSError as error:
            queue.put(str(error))

    process = multiprocessing.get_context("fork").Process(target=read)
    process.start()
    assert queue.get().startswith("This process was forked from one that had used an object store.")
    process.join()


def test_weights_are_at_a_place_named_by_their_contents(root, bucket, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"weights")
    files = {"model.bin": Digest.of(b"weights")}
    place = (root / "models/v1/weights").place(files)
    place.put_files(tmp_path, files)
    [key] = bucket.list_keys("team/models")
    assert key == f"team/{place.key}/model.bin"


def test_weights_that_were_altered_are_named_and_not_provided(root, bucket, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"weights")
    files = {"model.bin": Digest.of(b"weights")}
    place = (root / "models/v1/weights").place(files)
    place.put_files(tmp_path, files)
    bucket.put(f"team/{place.key}/model.bin", b"altered")
    with pytest.raises(ValueError, match=r"model\.bin: expected sha256") as caught:
        place.local_files(files).__enter__()
    assert str(place) in str(caught.value)
    place.put_files(tmp_path, files)  # a run that trains again restores them
    with place.local_files(files) as folder:
        assert (folder / "model.bin").read_bytes() == b"weights"


def test_a_work_folder_is_on_this_host_and_the_same_each_time(root, bucket):
    folder = (root / ".work").local_folder()
    assert folder.is_dir()
    assert folder == (root / ".work").local_folder()
    other = open_path(f"{bucket.url}/other")
    assert folder != (other / ".work").local_folder()
    assert bucket.list_keys() == []


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIA:secret@bucket/team",
        "s3://AKIA:se@secret@bucket/team",
        "s3://bucket/team?X-Amz-Signature=secret",
        "https://user:secret@host/team",
        "https://host/team?X-Amz-Signature=secret",
        "s3:/AKIA:secret@bucket/team",
    ],
)
def test_the_error_for_an_address_with_credentials_does_not_repeat_them(address):
    with pytest.raises(ValueError, match="expected") as caught:
        open_path(address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["s3://AKIA:secret@bucket/f", "https://u:secret@host/f"])
def test_the_error_for_a_file_with_credentials_in_its_address_does_not_repeat_them(address):
    with pytest.raises(ValueError, match="expected") as caught:
        open_file(address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("user", ["user:se@secret", "secret@secret:secret"])
def test_no_part_of_a_password_with_a_special_character_is_in_an_error(user, bucket, monkeypatch):
    monkeypatch.setattr("src.storage.objects.client.FIRST_RETRY_SECONDS", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{user}@127.0.0.1:1")
    with pytest.raises(OSError, match=r"at http://127\.0\.0\.1:1") as caught:
        (open_path(f"{bucket.url}/team") / "f").read(LIMIT)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "localhost:9000",
        "http://",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:port",
        "http://user:se/cret@127.0.0.1:1",
        "http://user:se?cret@127.0.0.1:1",
        "http://user:se#cret@127.0.0.1:1",
        "https://[::1",
        "http://ho st:1",
        "http://127.0.0.1:1/pa th",
        " ",
    ],
)
def test_an_address_of_a_server_that_is_not_valid_is_an_error(address, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    root = open_path(f"{bucket.url}/team")
    for use in (lambda: (root / "f").read(LIMIT), lambda: (root / "f").create(b"")):
        with pytest.raises(RefusedError, match="the address of the server is") as caught:
            use()
        assert "cret" not in str(caught.value)


@pytest.mark.parametrize("other", ["AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3"])
def test_the_server_that_is_named_is_the_one_that_is_asked(other, bucket, monkeypatch):
    bucket.put("team/f", b"1")
    monkeypatch.setattr("src.storage.objects.client.FIRST_RETRY_SECONDS", 0)
    monkeypatch.setenv(other, "http://127.0.0.1:1")
    root = open_path(f"{bucket.url}/team")
    try:
        found = (root / "f").read(LIMIT)
    except OSError as error:
        assert "at http://127.0.0.1:1." in str(error)
    else:
        assert found == b"1"
        assert root.store._client.qualified_url.startswith(os.environ["AWS_ENDPOINT_URL"])


def test_a_file_that_is_restored_between_two_lists_is_found(root, bucket, monkeypatch):
    files = {"model.bin": Digest.of(b"weights")}
    list_objects = ObjectClient.list

    def list_and_restore(self, prefix):
        found = list_objects(self, prefix)
        bucket.put("team/w/model.bin", b"weights")
        return found

    monkeypatch.setattr(ObjectClient, "list", list_and_restore)
    bucket.put("team/w/model.bin", b"other bytes")
    with (
        pytest.raises(CorruptFileError, match=r"s3://.*/team/w/model\.bin: expected"),
        (root / "w").local_files(files),
    ):
        raise AssertionError
    with (root / "w").local_files(files) as folder:
        assert (folder / "model.bin").read_bytes() == b"weights"


@pytest.mark.parametrize("name", ["model.bin", "other.bin"])
def test_a_large_object_in_the_place_of_weights_is_not_read(name, root, bucket, proxy, monkeypatch):
    use_server(monkeypatch, proxy.url)
    bucket.put("team/w/model.bin", b"weights")
    bucket.put(f"team/w/{name}", bytes(1 << 20))
    with (
        pytest.raises(CorruptFileError, match=rf"/team/w/{name}: "),
        (open_path(str(root)) / "w").local_files({"model.bin": Digest.of(b"weights")}),
    ):
        raise AssertionError
    assert [each.request.path for each in proxy.log if f"/w/{name}" in each.request.path] == []


@pytest.mark.parametrize("provide", ["local_files", "local_file"])
def test_a_copy_that_is_altered_while_it_is_in_use_is_an_error(provide, root, bucket):
    bucket.put("team/w/model.bin", b"weights")
    digest = Digest.of(b"weights")

    def use(change):
        if provide == "local_file":
            with (root / "w/model.bin").local_file(digest) as path:
                change(path)
                return path.read_bytes()
        with (root / "w").local_files({"model.bin": digest}) as folder:
            change(folder / "model.bin")
            return (folder / "model.bin").read_bytes()

    def alter(path):
        path.chmod(0o644)
        path.write_bytes(b"altered")

    with pytest.raises(FileChangedError, match=r"model\.bin: written to"):
        use(alter)
    assert use(os.utime) == b"weights"  # by another process that uses the same copy


def test_a_dataset_is_added_where_a_console_has_made_a_folder(root, bucket):
    bucket.put("team/datasets/new/", b"")
    with (root / "datasets/new").new_folder() as folder:
        folder.write("data.jsonl", [b"{}\n"])
    assert bucket.get("team/datasets/new/data.jsonl") == b"{}\n"


def test_a_name_that_is_no_text_is_refused(root):
    with pytest.raises(ValueError, match="is not a valid key"):
        (root / "\udc80").read(LIMIT)


def test_the_size_that_a_server_states_takes_no_memory(root, monkeypatch):
    info = ObjectInfo("f", 10**18, "tag", "identity")
    monkeypatch.setattr(ObjectClient, "get_first_part", lambda *_: StoredObject(info, b"1"))
    monkeypatch.setattr(ObjectClient, "get_part", lambda *_: b"2")
    buffer = bytearray(1)
    with (root / "f").open() as file:
        found = [bytes(buffer) for _ in range(9) if file.readinto(memoryview(buffer))]
    assert found == [b"1", *[b"2"] * 8]


@pytest.mark.parametrize(
    ("profile", "reason"),
    [("broken", "CredentialRetrievalError"), ("none", r"The config profile \(none\)")],
)
def test_what_a_program_for_credentials_prints_is_not_in_an_error(
    profile, reason, bucket, monkeypatch, tmp_path
):
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    config = "[profile broken]\ncredential_process = /bin/sh -c 'echo secret >&2; exit 1'\n"
    (tmp_path / "config").write_text(config)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", profile)
    with pytest.raises(RefusedError, match=f"no credentials of AWS: .*{reason}") as caught:
        (open_path(f"{bucket.url}/team") / "f").read(LIMIT)
    assert "secret" not in str(caught.value)
