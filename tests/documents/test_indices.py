import datetime as dt
import re

import pytest

from uaharvest import settings
from uaharvest.documents.indices import index_name
from uaharvest.errors import BadInputError

DAY = dt.date(2026, 1, 9)


def test_a_daily_index_is_named_by_family_and_day():
    assert index_name("useractions", DAY, None) == "useractions-2026.01.09"


def test_the_sites_infix_stands_between_them_as_in_production():
    infix = "matterhorn-production"
    assert index_name("useractions", DAY, infix) == "useractions-matterhorn-production-2026.01.09"


def test_a_family_with_one_index_has_no_day():
    assert index_name("episodes", None, None) == "episodes"
    assert index_name("episodes", None, "x") == "episodes-x"


def test_a_year_has_four_digits_however_early():
    assert index_name("useractions", dt.date(26, 1, 9), None) == "useractions-0026.01.09"


@pytest.mark.parametrize("infix", ["Prod", "-x", "a b", "a*", "a/b", "é", "x" * 101])
def test_an_infix_that_elasticsearch_would_refuse_is_told_at_the_start(infix):
    with pytest.raises(BadInputError, match=re.escape("INDEX_INFIX")):
        settings.load({"INDEX_INFIX": infix})
