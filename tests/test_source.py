from src.source import CORE, source_digest


def digest_of(folder, files):
    for name, text in files.items():
        path = folder / "core" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    source_digest.cache_clear()
    return source_digest(folder / "core")


def test_the_digest_of_known_source_is_known(tmp_path):
    assert digest_of(tmp_path, {"a.py": "x", "b/c.py": ""}) == (
        "fc8837256d88974c105fc14460876ddc69d4bc10b1bfe57e10d0ff138dff9696"
    )


def test_the_digest_does_not_depend_on_where_the_folder_lies(tmp_path):
    files = {"a.py": "x = 1\n", "b/c.py": "y = 2\n"}
    assert digest_of(tmp_path / "here", files) == digest_of(tmp_path / "there", files)


def test_any_change_of_a_python_file_changes_the_digest(tmp_path):
    kinds = [
        {"a.py": "x"},
        {"a.py": "y"},
        {"b.py": "x"},
        {"a.py": "x", "b.py": ""},
        {"c/a.py": "x"},
    ]
    digests = {digest_of(tmp_path / str(n), files) for n, files in enumerate(kinds)}
    assert len(digests) == len(kinds)


def test_files_that_are_not_python_do_not_count(tmp_path):
    plain = digest_of(tmp_path / "plain", {"a.py": "x"})
    assert (
        digest_of(tmp_path / "more", {"a.py": "x", "a.txt": "y", "__pycache__/a.pyc": ""}) == plain
    )


def test_the_folders_that_are_given_all_count(tmp_path):
    digest_of(tmp_path / "one", {"a.py": "x"})
    digest_of(tmp_path / "two", {"a.py": "y"})
    one, two = tmp_path / "one/core", tmp_path / "two/core"
    assert len({source_digest(one), source_digest(two), source_digest(one, two)}) == 3


def test_the_source_is_read_once_a_process(tmp_path):
    before = digest_of(tmp_path, {"a.py": "x"})
    (tmp_path / "core/a.py").write_text("y")
    assert source_digest(tmp_path / "core") == before


def test_the_core_is_the_folder_of_this_code():
    assert (CORE / "training/pipeline.py").is_file()
    assert len(source_digest(CORE)) == 64
