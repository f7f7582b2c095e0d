"""What people write after an option becomes the value they mean, or an error that shows how to write it."""

import zipfile

import pytest

from client.archive import zip_folder
from client.command.statements import class_names, height_width, number, numbers, pairs


def test_numbers_sizes_and_pairs():
    assert numbers("0.49, .48,0.45") == (0.49, 0.48, 0.45)
    assert height_width("224x192") == (224, 192)
    assert pairs(["width=16", "slope=0.1", "act=elu"], number) == {"width": 16, "slope": 0.1, "act": "elu"}
    assert (numbers(None), height_width(None), pairs(None, str)) == (None, None, {})


@pytest.mark.parametrize(("read", "text", "shown"), [(numbers, "a,b", "0.49,0.48"), (height_width, "224", "224x224")])
def test_a_wrong_value_shows_a_right_one(read, text, shown):
    with pytest.raises(ValueError, match=shown) as caught:
        read(text)
    assert text in str(caught.value)


def test_a_pair_without_equals_is_refused():
    with pytest.raises(ValueError, match="'width' is not name=value"):
        pairs(["width"], number)


def test_class_names_from_the_option_or_a_file(tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text("cat\n\ndog\n")
    assert class_names("cat, dog") == class_names(str(file)) == ("cat", "dog")


def test_a_folder_of_class_folders_becomes_the_same_zip_each_time(tmp_path):
    for name in ("dog/2.png", "cat/1.JPG", "cat/notes.txt", "readme.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    with zip_folder(tmp_path) as first, zip_folder(tmp_path) as second:
        with zipfile.ZipFile(first) as archive:
            assert archive.namelist() == ["cat/1.JPG", "dog/2.png"]
            assert archive.read("dog/2.png") == b"dog/2.png"
        first.seek(0)
        assert first.read() == second.read()


def test_a_folder_without_images_says_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match="<class name>/<image>"):
        zip_folder(tmp_path)
