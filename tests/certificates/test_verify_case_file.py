"""The offline check of a case file: nothing in it can be changed, missing or added unnoticed."""

import ast
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests import settings as desk
from unlocks.certificates import case_file, keys, verify_certificate
from unlocks.certificates.verify_certificate import NotGenuine, verify_folder
from unlocks.digest import sha256

from . import samples
from .test_verify_certificate import AT, OTHER, listed, run, signed

GOLDEN = Path(__file__).parent / "case_file" / "UR-000007"
PATHS = ["README.txt", "certificates/CN-000012-1.json", "ledger.jsonl"]
FORGER = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"1")


@pytest.fixture
def folder(tmp_path):
    """A copy of the case file that is kept: signed once, never written again."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "UR-000007"))


def wrong(folder, *given, **more):
    """What is wrong with a case file, as the check says it; '' if nothing is."""
    try:
        verify_folder(str(folder), *given, **more)
    except NotGenuine as reason:
        return str(reason)
    return ""


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())["manifest"]


def sign_again(folder, **changes):
    """Sign the list of a case file again, with the desk's key: for what the desk itself would never say."""
    facts = manifest_of(folder) | changes
    (folder / "manifest.json").write_text(keys.manifest(facts))


def as_listed(folder, *paths):
    return [
        {"path": path, "size": len(content), "sha256": sha256(content)}
        for path in paths
        for content in [(folder / path).read_bytes()]
    ]


def test_the_case_file_of_the_first_format_stays_genuine(folder):
    manifest, key = verify_folder(str(folder), samples.PUBLIC_KEY, listed())
    assert (manifest["format"], manifest["request"], key) == (case_file.FORMAT, "UR-000007", samples.PUBLIC_KEY)
    assert [file["path"] for file in manifest["files"]] == PATHS
    assert {manifest["format"]} == set(verify_certificate.MANIFESTS)


@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_was_changed_is_named(folder, path):
    content = (folder / path).read_bytes()
    for altered in (content + b"\n", content[:-1], content.replace(b"e", b"a", 1)):
        (folder / path).write_bytes(altered)
        assert wrong(folder) == f"{path} was changed."


@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_is_missing_is_named(folder, path):
    (folder / path).unlink()
    assert wrong(folder) == f"{path} is missing."


@pytest.mark.parametrize("path", ["more.txt", "certificates/CN-000012-2.json", "evidence/a/b.pdf", "certificates/é\n"])
def test_a_file_that_was_added_is_named(folder, path):
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text("")
    assert wrong(folder) == f"{path.replace(chr(10), '[U+000A]')} was added: the list does not name it."


def test_a_folder_that_was_linked_in_is_named(folder, tmp_path):
    (folder / "evidence").symlink_to(tmp_path)
    assert wrong(folder) == "evidence was added: the list does not name it."


def test_a_link_is_named_though_it_is_called_as_systems_call_theirs(folder, tmp_path):
    (folder / "Thumbs.db").symlink_to(tmp_path)
    assert wrong(folder) == "Thumbs.db was added: the list does not name it."


def test_a_listed_file_that_is_a_link_is_named(folder, tmp_path):
    (folder / "README.txt").rename(tmp_path / "elsewhere.txt")
    (folder / "README.txt").symlink_to(tmp_path / "elsewhere.txt")
    assert wrong(folder) == "README.txt is a link to a file elsewhere."


def test_what_systems_leave_in_a_folder_and_the_list_of_keys_are_nothing_added(folder):
    for name in (".DS_Store", "certificates/Thumbs.db", "desktop.ini", "keys.json"):
        (folder / name).write_text("")
    assert wrong(folder, beside=str(folder / "keys.json")) == ""
    assert wrong(folder) == "keys.json was added: the list does not name it."


def test_all_that_is_wrong_is_named_up_to_twenty(folder):
    (folder / "README.txt").unlink()
    (folder / "ledger.jsonl").write_text("{}")
    for number in range(30):
        (folder / f"{number:02}.txt").write_text("")
    *lines, last = wrong(folder).splitlines()
    assert lines[:2] == ["README.txt is missing.", "ledger.jsonl was changed."]
    assert (len(lines), last) == (20, "and 12 more.")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"made_by": "someone-else"}, "The signature does not match"),
        ({"faults": []}, "The signature does not match"),
        ({"files": []}, "The signature does not match"),
        ({"public_key": OTHER}, "The signature does not match"),
        ({"request": "UR-1"}, "The file: manifest: request is not the reference of a request or null."),
        ({"more": 1}, "The file: manifest does not have the keys of a certificate."),
    ],
)
def test_a_list_that_was_changed_is_not_genuine(folder, change, said):
    content = json.loads((folder / "manifest.json").read_text())
    content["manifest"] |= change
    (folder / "manifest.json").write_text(json.dumps(content))
    assert wrong(folder).startswith(said)


@pytest.mark.parametrize("path", ["../keys.json", "/etc/passwd", "a/../../b", ".hidden", "a\\b", "a//b", "é.txt", ""])
def test_a_list_names_nothing_outside_of_its_folder(folder, path):
    sign_again(folder, files=[{"path": path, "size": 0, "sha256": sha256("")}])
    assert wrong(folder) == "The file: manifest: files, item 1: path is not the path of a file."


def test_a_list_names_a_file_once_and_not_itself(folder):
    files = manifest_of(folder)["files"]
    sign_again(folder, files=[*files, files[0]])
    assert wrong(folder) == "Its list names a file twice, or itself."
    sign_again(folder, files=[*files, *as_listed(folder, "manifest.json")])
    assert wrong(folder).startswith("Its list names a file twice, or itself.")


def forged(folder, key, signed_for=verify_certificate.MANIFEST_FOR):
    """Sign the list as someone else would, with a key of their own."""
    public = key.public_key().public_bytes_raw().hex()
    facts = manifest_of(folder) | {"public_key": public}
    value = key.sign(verify_certificate.message(facts, signed_for)).hex()
    signature = {"algorithm": "Ed25519", "key": public, "key_id": verify_certificate.key_id(public), "value": value}
    (folder / "manifest.json").write_text(json.dumps({"manifest": facts, "signature": signature}))


def test_a_list_that_someone_else_signed_is_not_genuine(folder):
    forged(folder, FORGER)
    assert wrong(folder) == ""  # nothing was changed since; by whom it was signed is said
    assert wrong(folder, samples.PUBLIC_KEY) == "It was signed with another key than the one given."
    assert wrong(folder, keys=listed()) == "It was signed with a key that is not in the list of keys."


def test_what_was_signed_for_another_purpose_is_no_list(folder):
    ours = Ed25519PrivateKey.from_private_bytes(*desk.CERTIFICATE_KEYS)
    forged(folder, ours, verify_certificate.SIGNED_FOR)
    assert wrong(folder).startswith("The signature does not match")
    forged(folder, ours)
    assert wrong(folder) == ""


def test_a_list_is_of_the_time_of_its_key(folder):
    assert wrong(folder, keys=listed()) == ""
    sign_again(folder, made_at="2026-10-31T00:00:00+00:00")
    assert wrong(folder, keys=listed()).startswith("It was signed with key 2e92382f8aa642f9, outside of the time")
    sign_again(folder, made_at=AT)
    assert wrong(folder, keys=listed(valid_until=AT)).startswith("It was signed with key 2e92382f8aa642f9, outside")


def test_each_certificate_is_checked_too(folder):
    path = "certificates/CN-000012-1.json"
    own = signed(samples.closed(), FORGER)
    (folder / path).write_bytes(own)
    sign_again(folder, files=as_listed(folder, *PATHS))
    assert wrong(folder) == ""  # the list vouches for it
    assert wrong(folder, keys=listed()) == f"{path}: It was signed with a key that is not in the list of keys."
    (folder / path).write_bytes(own.replace(b"Dana", b"Eve"))
    sign_again(folder, files=as_listed(folder, *PATHS))
    assert wrong(folder).startswith(f"{path}: The signature does not match")
    sign_again(folder, request="UR-000008", files=as_listed(folder, *PATHS[::2]))
    (folder / path).unlink()
    assert wrong(folder) == ""
    (folder / path).write_bytes(own)
    sign_again(folder, files=as_listed(folder, *PATHS))
    assert wrong(folder) == f"{path} belongs to another request."


# --- Several in one folder -------------------------------------------------------------------------------------------


@pytest.fixture
def several(folder, tmp_path):
    """Two case files in one folder, with a list of their lists."""
    other = Path(shutil.copytree(folder, tmp_path / "UR-000008"))
    (other / PATHS[1]).unlink()
    sign_again(other, request="UR-000008", files=as_listed(other, *PATHS[::2]))
    (tmp_path / "README.txt").write_text("Two case files.")
    (tmp_path / "manifest.json").write_bytes((folder / "manifest.json").read_bytes())
    inside = ["README.txt", "UR-000007/manifest.json", "UR-000008/manifest.json"]
    sign_again(tmp_path, request=None, files=as_listed(tmp_path, *inside), faults=[])
    return tmp_path


def test_several_case_files_are_checked_at_once_and_each_by_itself(several):
    assert wrong(several, samples.PUBLIC_KEY, listed()) == ""
    assert wrong(several / "UR-000008", samples.PUBLIC_KEY) == ""
    (several / "UR-000008" / "ledger.jsonl").write_text("{}")
    (several / "UR-000007" / "more.txt").write_text("")
    (several / "UR-000009").mkdir()
    (several / "UR-000009" / "manifest.json").write_text("")
    assert wrong(several).splitlines() == [
        "UR-000009/manifest.json was added: the list does not name it.",
        "UR-000007: more.txt was added: the list does not name it.",
        "UR-000008: ledger.jsonl was changed.",
    ]


def test_a_case_file_that_was_taken_out_or_exchanged_is_named(several, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(several / "UR-000008", elsewhere / "UR-000008")
    assert wrong(several).splitlines() == [
        "UR-000008/manifest.json is missing.",
        "UR-000008: It has no manifest.json, so it is no case file, or not the whole of one.",
    ]
    shutil.copytree(several / "UR-000007", several / "UR-000008")
    assert wrong(several).splitlines() == [
        "UR-000008/manifest.json was changed.",
        "UR-000008 is not the case file of UR-000008.",
    ]


def test_a_case_file_holds_no_others(several):
    sign_again(several, request="UR-000010")
    assert wrong(several).splitlines() == [
        "UR-000007 is not the case file of UR-000007.",
        "UR-000008 is not the case file of UR-000008.",
    ]


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_says_what_holds_what_was_missing_and_what_it_cannot_check(folder):
    (folder / "keys.json").write_text(json.dumps(listed()))
    assert run(folder, "--keys", folder / "keys.json") == (
        0,
        "GENUINE: signed with a key of the list while it was valid, and nothing has been changed since.\n"
        "\n"
        "Case file    UR-000007\n"
        "Made         2026-11-26 01:00:00 UTC by manager, ServiceTitan Support\n"
        "Files        3, 1 of them certificates\n"
        "Newest entry 1, f298025fb0369beb806dc7746a019a3935e9f3d24a9659747d08007c4ef89530\n"
        f"Signed with  {samples.PUBLIC_KEY}\n"
        "Key          2e92382f8aa642f9\n"
        "\n"
        "MISSING OR DAMAGED when it was made: evidence/CN-000012-1.pdf: “signed.pdf” (SHA-256 "
        "4a3cdfae6f291c8f544daea5b72905cf9e74c1ed427d831ad0d7ca00c73c794d): The file is missing.\n"
        "\n"
        "Not checked here: the chain of the ledger's entries. It is sealed with a key that only the desk has; ask "
        "ServiceTitan Support to check it.\n",
        "",
    )


def test_the_command_without_a_key_says_what_is_left_to_compare(folder):
    code, said, _ = run(folder)
    first, *_, last = said.splitlines()
    assert (code, first) == (0, "UNALTERED: nothing has been changed since it was signed with the key below.")
    assert last.startswith("Now compare this key with the one on https://desk.example/check/ :")


def test_the_command_names_what_it_ignores(folder):
    for name in (".DS_Store", "certificates/Thumbs.db"):
        (folder / name).write_text("")
    code, said, _ = run(folder, "--key", samples.PUBLIC_KEY)
    assert (code, said.splitlines()[0].partition(":")[0]) == (0, "GENUINE")
    assert [line for line in said.splitlines() if line.startswith("Ignored")] == [
        "Ignored, as it is not of the case file: .DS_Store",
        "Ignored, as it is not of the case file: certificates/Thumbs.db",
    ]


def test_what_is_listed_is_checked_whatever_it_is_called(folder):
    (folder / "Thumbs.db").write_text("")
    sign_again(folder, files=as_listed(folder, *PATHS, "Thumbs.db"))
    code, said, _ = run(folder)
    assert (code, "Ignored" in said) == (0, False)
    (folder / "Thumbs.db").write_text("changed")
    assert wrong(folder) == "Thumbs.db was changed."


def test_the_command_names_all_that_is_wrong(folder):
    (folder / "ledger.jsonl").unlink()
    (folder / "more.txt").write_text("")
    said = "NOT GENUINE: ledger.jsonl is missing.\nmore.txt was added: the list does not name it.\n"
    assert run(folder, "--key", samples.PUBLIC_KEY) == (1, said, "")


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (None, 1, "NOT GENUINE: It has no manifest.json, so it is no case file, or not the whole of one.\n"),
        (b"%PDF-1.4", 1, "NOT GENUINE: This is a PDF. What can be checked here is the JSON file of the same"),
        (b"\xff", 1, "NOT GENUINE: It is not UTF-8 text"),
        (b'{"manifest": {"format": "unlock-desk-case-file/2"}}', 2, "NOT CHECKED: Its format is not one that is known"),
    ],
)
def test_a_folder_without_a_list_that_can_be_read_is_no_case_file(folder, content, status, said):
    path = folder / "manifest.json"
    path.unlink() if content is None else path.write_bytes(content)
    code, found, complaint = run(folder)
    assert (code, complaint) == (status, "")
    assert found.startswith(said)


def test_python_3_9_reads_the_script():
    ast.parse(Path(verify_certificate.__file__).read_text(), feature_version=(3, 9))


def test_a_list_of_the_biggest_case_file_is_read_soon(folder):
    files = [{"path": f"evidence/CN-000012-{number}.pdf", "size": 0, "sha256": sha256("")} for number in range(20_000)]
    sign_again(folder, files=files)
    start = datetime.now(tz=UTC)
    assert wrong(folder).splitlines()[-1] == "and 19983 more."
    assert (datetime.now(tz=UTC) - start).total_seconds() < 10
