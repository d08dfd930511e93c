import pytest

from uaharvest.errors import BadInputError
from uaharvest.report import roster

HEADER = "huid,email,first_name,last_name"


def read(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "roster.csv"
    path.write_bytes(text.encode(encoding))
    return roster.read(path)


def test_a_roster_has_a_student_on_each_line(tmp_path):
    [one, other] = read(tmp_path, f"{HEADER},registrant\n01234567,A.B@Example.edu,Ann,Bee,reg1\n2,,José,O'Neil,\n")
    assert (one.huid, one.emails, one.name, one.registrant) == (
        "01234567",
        ("a.b@example.edu",),
        "Bee, Ann",
        "reg1",
    )
    assert (other.emails, other.name, other.registrant) == ((), "O'Neil, José", None)


def test_what_excel_writes_is_read_too(tmp_path):
    text = 'Last_Name;First_Name;Huid;Email;Section\r\n"Bee; Cee";Ann;1;a@x.edu b@y.org;A\r\n;;;;\r\n'
    [one] = read(tmp_path, text, "utf-8-sig")
    assert (one.huid, one.emails, one.last_name) == ("1", ("a@x.edu", "b@y.org"), "Bee; Cee")


def test_the_preferred_name_is_shown_and_the_id_if_there_is_no_name(tmp_path):
    found = read(tmp_path, f"{HEADER},preferred_name\n1,,William,Tell,Bill\n2,,,,\n")
    assert [one.name for one in found] == ["Tell, Bill", "2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: no column huid, email, first_name, last_name."),
        (
            "huid,name\n",
            "line 1: no column email, first_name, last_name. Expected huid,email,first_name,last_name",
        ),
        (f"{HEADER},huid\n", "line 1: more than one column huid"),
        (f"{HEADER}\n", "no students. Expected a line for each after the header"),
        (f"{HEADER}\n1,a@b,Secret,Name\n\n1,a@b,X\n", "line 4: 3 columns. Expected 4, as in line 1"),
        (f"{HEADER}\n,a@b,Secret,Name\n", "line 2: the huid is empty"),
        (f"{HEADER}\n1,secret,Secret,Name\n", "line 2: the email is not an address"),
        (f"{HEADER}\n1,a@b,Secret,Name\n2,A@B,,\n", "line 3: the same email as in line 2"),
        (f"{HEADER}\n1,,Secret,Name\n2,,,\n1,,,\n", "line 4: the same huid as in line 2"),
        (f'{HEADER}\n1,,"Secret,Name\n', "unexpected end of data"),
    ],
)
def test_a_bad_roster_is_refused_with_the_line_and_without_what_it_says(tmp_path, text, said):
    with pytest.raises(BadInputError) as error:
        read(tmp_path, text)
    assert f"--roster: {tmp_path / 'roster.csv'}: {said}" in str(error.value)
    assert "ecret" not in str(error.value)


def test_of_many_errors_the_first_are_shown(tmp_path):
    with pytest.raises(BadInputError, match="line 6: the huid is empty; and 15 more errors"):
        read(tmp_path, f"{HEADER}\n" + ",,A,B\n" * 20)


def test_a_file_that_is_not_there_or_not_utf_8_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="No such file"):
        roster.read(tmp_path / "roster.csv")
    with pytest.raises(BadInputError, match="is not UTF-8"):
        read(tmp_path, f"{HEADER}\n1,,José,\n", "latin-1")


def test_a_student_shows_no_personal_data_in_the_repr(tmp_path):
    [one] = read(tmp_path, f"{HEADER},registrant\n1,secret@x,Secret,Secret,secret\n")
    assert "secret" not in repr(one).lower()
