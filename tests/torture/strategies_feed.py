"""Hostile input: text that resembles YAML, damaged files, and invalid names."""

import json
from typing import Any

from hypothesis import strategies as st

__all__ = ["damaged", "damaged_json", "hostile_names", "hostile_yaml"]

# --- YAML ----------------------------------------------------------------------------------------

_keys = st.sampled_from(
    [
        *("base_model", "dataset_version", "learning_rate", "epochs", "batch_size"),
        *(
            "epoch",
            "<<",
            "?",
            "*a",
            "&a k",
            "[a]",
            "{a: b}",
            "'q'",
            '"\\x65pochs"',
            "!!str k",
            "é",
            "",
        ),
    ]
)
_scalars = st.sampled_from(
    [
        *("mistral-7b", "dataset_v1", "2e-5", "3", "16", "-1", "0", "0x10", "0o7", "1_000", "1:30"),
        *(
            ".nan",
            "-.inf",
            "1e999",
            "9" * 400,
            "9" * 5000,
            "0" * 5000,
            "yes",
            "~",
            "",
            "2024-01-01",
        ),
        *(
            "'a",
            '"a',
            "'a''b'",
            '"\\uD800"',
            '"\\U00110000"',
            '"\\/"',
            "|\n  x",
            ">-\n  x",
            "|9\n x",
        ),
        *("&a x", "*a", "*b", "&a *a", "!!int 3", "!!python/object:os.system x", "! x", "!<", "%a"),
        *(
            "[",
            "]",
            "{",
            "}",
            "[*a, *a]",
            "{a: *a}",
            "[[[[",
            "- x",
            "? x",
            "a: b: c",
            "\t",
            "@",
            "`",
        ),
        *(
            "\x00",
            "\x07",
            "\x85",
            "\u2028",
            "\ufeff",
            "\U0010ffff",
            "../x",
            "/etc/passwd",
            "a" * 2000,
        ),
    ]
)
_lines = st.one_of(
    st.tuples(_keys, st.sampled_from([": ", ":", " : ", ":\t", ":\n  "]), _scalars).map("".join),
    st.tuples(st.sampled_from(["- ", "? ", ": ", "  ", "\t", "# ", "%YAML "]), _scalars).map(
        "".join
    ),
    st.sampled_from(["---", "...", "%YAML 1.1", "%YAML 9.9", "%TAG ! x", "", "---\n---", "\ufeff"]),
)
_line_ends = st.sampled_from(["\n", "\r\n", "\r", "\u2028", "\n\n"])
_complete = "base_model: a\ndataset_version: b\nlearning_rate: 1\nepochs: 1\nbatch_size: 1\n"


@st.composite
def _documents(draw: st.DrawFn) -> str:
    text = draw(_line_ends).join(draw(st.lists(_lines, max_size=12)))
    return draw(st.sampled_from(["", "", _complete])) + text


_encodings = st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-7"])

hostile_yaml: st.SearchStrategy[bytes] = st.one_of(
    st.builds(lambda text, kind: text.encode(kind), _documents(), _encodings),
    st.binary(max_size=200),
)

# --- JSON ----------------------------------------------------------------------------------------

_other_values = st.sampled_from(
    [
        *("null", "true", "[]", "{}", '""', '"../x"', "0", "-1", "1.0", "1e999", "-1e-999", "NaN"),
        *(
            "Infinity",
            "-Infinity",
            "9" * 30,
            "9" * 5000,
            "1" + "0" * 4299,
            '"\\ud800"',
            '"\\u0000"',
        ),
        *(
            "[" * 500 + "]" * 500,
            "[" * 5000 + "]" * 5000,
            '{"a":' * 400 + "1" + "}" * 400,
            "01",
            "'",
        ),
        *('"a\nb"', '"' + "a" * 300 + '"', '{"a":1,"a":2}', '{"":{"":null}}', ""),
    ]
)


@st.composite
def damaged_json(draw: st.DrawFn, value: dict[str, Any]) -> bytes:
    """Generate the bytes of a file that holds `value`, with up to three changes."""
    lines = json.dumps(value, indent=2).split("\n")
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(lines) - 1))
        key, colon, rest = lines[place].partition(": ")
        kind = draw(st.sampled_from(["value", "key", "twice", "gone", "new"]))
        if kind == "value" and colon:
            comma = "," if rest.endswith(",") else ""
            lines[place] = f"{key}: {draw(_other_values)}{comma}"
        elif kind == "key":
            lines[place] = lines[place].replace("_", draw(st.sampled_from(["", "-", "__", "é"])))
        elif kind == "twice":
            lines.insert(place, lines[place])
        elif kind == "gone" and len(lines) > 1:
            del lines[place]
        elif kind == "new":
            lines.insert(place, f'"unknown": {draw(_other_values)},')
    data = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"])).join(lines).encode()
    kind = draw(st.sampled_from(["as is"] * 4 + ["damaged"] * 4 + ["bom", "utf-16"]))
    if kind == "damaged":
        return draw(damaged(data))
    if kind == "bom":
        return b"\xef\xbb\xbf" + data
    if kind == "utf-16":
        return data.decode().encode("utf-16")
    return data


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Generate `data` with its end cut off or zeroed, one bit flipped, or bytes inserted."""
    kind = draw(st.sampled_from(["cut", "flip", "insert", "zeros"]))
    place = draw(st.integers(0, len(data)))
    if kind == "cut":
        return data[:place]
    if kind == "flip" and place < len(data):
        flipped = data[place] ^ (1 << draw(st.integers(0, 7)))
        return data[:place] + bytes([flipped]) + data[place + 1 :]
    if kind == "insert":
        return data[:place] + draw(st.binary(min_size=1, max_size=9)) + data[place:]
    if kind == "zeros":  # a disk without power may leave the end of a file like this
        return data[:place] + bytes(len(data) - place)
    return data


# --- Names ---------------------------------------------------------------------------------------

_bad = [
    *(
        "",
        ".",
        "..",
        "../x",
        "/etc/x",
        "a/b",
        "a\\b",
        "a\n",
        "\na",
        "a\x00",
        " a",
        "a ",
        "-a",
        "_a",
    ),
    *(".a", "~", "~root", "a" * 129, "a" * 300, "registry.json", "REGISTRY.json", "a:b", "a*"),
    *(
        "registry.json.lock",
        "Registry.Json.Lock",
        "\uff4dodel_v1",
        "mode\u217c_v1",
        "m\u043edel_v1",
        "модель",
    ),
    *("a\u202eb", "a\u200b", "é", "e\u0301", "१", "a\ud800", "a/../b", "a//b", "%2e%2e"),
]
_bad_characters = st.characters().filter(
    lambda c: not (c.isascii() and (c.isalnum() or c in "._-"))
)

hostile_names: st.SearchStrategy[str] = st.one_of(
    st.sampled_from(_bad),
    st.builds(
        lambda before, bad, after: before + bad + after,
        st.text("ab.", max_size=3),
        _bad_characters,
        st.text("ab.", max_size=3),
    ),
)
