import base64
import hashlib
import hmac
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uaharvest.privacy.pseudonyms import PseudonymKey, Pseudonyms
from uaharvest.privacy.site import protection
from uaharvest.rows.useractions import OMITTED
from uaharvest.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
NEW, OLD = PseudonymKey("k2", "a secret of sixteen or more"), PseudonymKey("k1", "an older secret of sixteen")
PSEUDONYMS = Pseudonyms([NEW, OLD])
NAMES = st.text(min_size=1).map(str.strip).filter(lambda name: name not in {"", "anonymous", OMITTED})


@given(NAMES)
def test_it_is_the_first_half_of_an_hmac_in_base32(name):
    value = name.lower() if "@" in name else name
    whole = hmac.new(NEW.secret.encode(), value.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    assert PSEUDONYMS.of(name) == f"pk2-{base64.b32encode(whole[:16]).decode().rstrip('=').lower()}"


@given(NAMES, NAMES)
def test_two_people_have_two_pseudonyms_and_each_has_one_length(one, other):
    first, second = PSEUDONYMS.of(one), PSEUDONYMS.of(other)
    lower = [name.lower() if "@" in name else name for name in (one, other)]
    assert (first == second) == (lower[0] == lower[1])
    assert re.fullmatch(r"pk2-[a-z2-7]{26}", first)


@given(NAMES)
def test_a_pseudonym_of_a_known_key_stays_and_one_of_another_key_does_not(name):
    assert PSEUDONYMS.of(PSEUDONYMS.of(name)) == PSEUDONYMS.of(name)
    (old,) = Pseudonyms([OLD]).every(name)
    assert PSEUDONYMS.of(old) == old
    (foreign,) = Pseudonyms([PseudonymKey("k3", "a secret of somebody else")]).every(name)
    assert PSEUDONYMS.of(foreign) != foreign


def test_a_person_is_found_by_all_keys_the_newest_first():
    assert PSEUDONYMS.every("jdoe") == [Pseudonyms([NEW]).of("jdoe"), Pseudonyms([OLD]).of("jdoe")]
    assert PSEUDONYMS.every(OMITTED) == [OMITTED]


def test_an_address_is_the_same_person_however_it_is_written_and_a_login_is_not():
    assert PSEUDONYMS.of(" J.Doe@Example.edu ") == PSEUDONYMS.of("j.doe@example.edu")
    assert PSEUDONYMS.of("JDoe") != PSEUDONYMS.of("jdoe")


@pytest.mark.parametrize("nobody", ["", "anonymous", OMITTED])
def test_nobody_stays_nobody(nobody):
    assert PSEUDONYMS.of(nobody) == nobody


def test_who_stands_for_nobody_by_the_settings_has_no_pseudonym():
    settings = Settings(privacy_pseudonyms=[("k1", "a secret, long enough")], anonymous_users=("guest",))
    protected = protection(settings)
    assert protected.id("guest") == "guest"
    assert protected.id("jdoe") != "jdoe"


def test_what_only_looks_like_a_pseudonym_gets_one():
    for name in (
        "pk2-",
        f"pk2-{'a' * 25}",
        f"pk2-{'a' * 27}",
        f"pk2-{'A' * 26}",
        f"xpk2-{'a' * 26}",
        f"p-{'a' * 26}",
    ):
        assert PSEUDONYMS.of(name) != name


def test_it_is_the_same_in_every_process():
    code = (
        "from uaharvest.privacy.pseudonyms import PseudonymKey, Pseudonyms\n"
        f"print(Pseudonyms([PseudonymKey({NEW.id!r}, {NEW.secret!r})]).of('jdoe'))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert said.strip() == PSEUDONYMS.of("jdoe")


def test_no_repr_shows_a_secret():
    assert NEW.secret not in repr(NEW) + repr([NEW]) + repr(PSEUDONYMS)
