"""What a user can get wrong ends in one line on stderr that says what and where, and in exit code 2."""

from __future__ import annotations

import errno

import numpy as np
import paddle
import pytest

from paddlevid.runtime import atomic_write


@pytest.fixture
def fails(run_main, capsys):
    """`fails(*arguments)` -> the one line on stderr of a command that must end with exit code 2."""

    def run(*arguments):
        capsys.readouterr()
        assert run_main(*arguments) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert "Traceback" not in lines[0]
        return lines[0]

    return run


def test_missing_config(fails):
    assert "configs/timesformer_k40.yaml" in (line := fails("-c", "configs/timesformer_k40.yaml"))
    assert "did you mean timesformer_k400.yaml" in line


def test_unknown_key(fails, tiny_recipe):
    assert "data.num_clases: unknown key; did you mean num_classes?" in fails(
        "-c", tiny_recipe(), "-o", "data.num_clases=3"
    )


def test_wrong_type(fails, tiny_recipe):
    assert "data.num_frames" in (line := fails("-c", tiny_recipe(), "-o", "data.num_frames=eight"))
    assert "integer" in line
    assert "'eight'" in line


def test_missing_list(fails, tiny_recipe, tmp_path):
    assert str(tmp_path / "no.txt") in fails("-c", tiny_recipe(), "-o", f"train.list={tmp_path / 'no.txt'}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("train/a.mp4 1\ntrain/b.mp4\n", "train.txt:2"),
        ("a.mp4 8\n", "label 8"),
        ("a.mp4 -1\n", "label -1"),
        ("there/is/none.mp4 1\n", "none.mp4"),
    ],
)
def test_bad_lists(fails, tiny_recipe, tmp_path, text, expected):
    path = tmp_path / "train.txt"
    path.write_text(text)
    assert expected in fails("-c", tiny_recipe(), "-o", f"train.list={path}", "-o", "train.epochs=1")


def bad_video(folder, kind):
    """A file that is named like a video and is none."""
    path = folder / f"{kind}.mp4"
    if kind == "zero-byte":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is not a video\n" * 50)
    else:
        import cv2

        path.write_bytes(cv2.imencode(".png", np.full((48, 48, 3), 90, np.uint8))[1].tobytes())
    return path


@pytest.mark.parametrize("kind", ["zero-byte", "text", "picture"])
@pytest.mark.parametrize("workers", [0, 2])
def test_training_on_an_unreadable_video(fails, tiny_recipe, tmp_path, kind, workers):
    path = tmp_path / "train.txt"
    path.write_text(f"{bad_video(tmp_path, kind)} 1\n")
    options = ("-o", f"train.list={path}", "-o", f"train.num_workers={workers}")
    assert f"{kind}.mp4" in fails("-c", tiny_recipe(), *options)


def test_testing_names_and_counts_unreadable_videos(tiny_recipe, run_main, motion_set, tmp_path, capsys):
    recipe = tiny_recipe()
    assert run_main("-c", recipe, "-o", "train.epochs=1") == 0
    listed = tmp_path / "test.txt"
    good = (motion_set / "test.txt").read_text()
    text, empty = bad_video(tmp_path, "text"), bad_video(tmp_path, "zero-byte")
    listed.write_text(f"{text} 1\n{good}{empty} 2\n{text} 1\n")
    weights = tmp_path / "output" / "last.pdparams"
    capsys.readouterr()
    assert run_main("--test", "-c", recipe, "-w", weights, "-o", f"test.list={listed}") == 2
    captured = capsys.readouterr()
    assert "7 scored, 3 unreadable" in captured.out
    assert "3 of 10 videos could not be read" in captured.err
    assert "text.mp4" in captured.err
    assert "zero-byte.mp4" in captured.err
    rows = (tmp_path / "output" / "test_predictions.csv").read_text()
    assert "zero-byte.mp4" in rows
    names = np.load(tmp_path / "output" / "test_scores.npz")["names"].tolist()
    assert names == [line.rsplit(" ", 1)[0] for line in good.splitlines()], "no video is swapped for another"


def test_testing_without_weights(fails, tiny_recipe):
    assert "-w" in fails("--test", "-c", tiny_recipe())


def test_weights_that_do_not_exist(fails, tiny_recipe, tmp_path):
    assert "none.pdparams" in fails("--test", "-c", tiny_recipe(), "-w", tmp_path / "none.pdparams")


def test_weights_of_another_model(tiny_recipe, run_main, capsys, tmp_path):
    weights = tmp_path / "other.pdparams"
    paddle.save(paddle.vision.models.mobilenet_v2().state_dict(), str(weights))
    capsys.readouterr()
    assert run_main("--test", "-c", tiny_recipe(), "-w", weights) == 2
    captured = capsys.readouterr()
    assert len(captured.err.strip().splitlines()) == 1
    assert "other.pdparams" in captured.err


def test_weights_that_are_cut_short(fails, tiny_recipe, tmp_path):
    weights = tmp_path / "torn.pdparams"
    paddle.save(paddle.vision.models.mobilenet_v2().state_dict(), str(weights))
    weights.write_bytes(weights.read_bytes()[:10_000])
    assert "torn.pdparams" in fails("--test", "-c", tiny_recipe(), "-w", weights)


def test_testing_weights_without_a_trained_head(fails, tiny_recipe, tmp_path):
    weights = tmp_path / "resnet18.pdparams"
    paddle.save(paddle.vision.models.resnet18().state_dict(), str(weights))
    assert "nothing is loaded for head.weight" in fails("--test", "-c", tiny_recipe("tsm"), "-w", weights)


def test_amp_options_without_amp(run_main, tiny_recipe, capsys):
    assert run_main("-c", tiny_recipe(), "--amp_level", "O2") == 2
    assert "need --amp" in capsys.readouterr().err


@pytest.mark.parametrize(
    "override", ["seed=2020-13-45", "output_dir=2020-02-31", f"seed={10**23}", "train.transforms.².x=1"]
)
def test_odd_values(fails, tiny_recipe, override):
    assert override.split("=")[0].split(".")[0] in fails("-c", tiny_recipe(), "-o", override)


def test_class_names_are_checked_before_training(fails, tiny_recipe):
    assert "nope" in fails("-c", tiny_recipe(), "-o", "data.class_names=nope")


def test_a_gpu_that_is_not_there(fails, tiny_recipe):
    if paddle.device.is_compiled_with_cuda():
        pytest.skip("this Paddle has CUDA")
    assert "device=cpu" in fails("-c", tiny_recipe(), "-o", "device=gpu")


def test_output_that_cannot_be_written(fails, tiny_recipe, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert str(blocked) in fails("-c", tiny_recipe(), "-o", f"output_dir={blocked}/run")
    assert str(blocked) in fails("-c", tiny_recipe(), "-o", f"output_dir={blocked}")


def test_a_disk_that_is_full_is_named_and_spares_what_is_there(tmp_path):
    path = tmp_path / "last.pdparams"
    path.write_text("good")

    def fill_up(temporary):
        with open(temporary, "w") as file:
            file.write("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        atomic_write(path, fill_up)
    assert caught.value.filename == str(path)
    assert path.read_text() == "good"
    assert list(tmp_path.iterdir()) == [path]
