"""A job is run again from its manifest and gives the same numbers; its attestation is checked without a service."""

import json

from tests.e2e.test_other_jobs import noisy

HOW = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--steps", "5", "--seed", "3"]
GENEROUS = ["--max-accuracy-drop", "100", "--max-asr", "100"]


def test_the_same_numbers_come_again_and_a_changed_one_is_noticed(serve, example, tmp_path):
    serve.start()
    weights, manifest, attestation = (tmp_path / name for name in ("repaired.safetensors", "manifest.json", "signed"))
    model, clean = str(example.model), str(example.clean)
    done = serve.command("repair", model, "--clean", clean, *HOW, *GENEROUS, "--out", str(weights), "--json")
    job = json.loads(done.stdout)["id"]
    for what in (["--artifact", "manifest.json", "--out", str(manifest)], ["--attestation", "--out", str(attestation)]):
        assert serve.command("download", job, *what).returncode == 0

    again = serve.command("replay", str(manifest), "--json")
    assert again.returncode == 0, again.stderr
    replayed = json.loads(again.stdout)
    assert (replayed["same"], replayed["differences"], replayed["circumstances"]) == (True, [], [])
    assert replayed["compared"] > 8
    assert serve.json("show", replayed["job"])["labels"] == {"replay-of": job}

    body = json.loads(manifest.read_text())
    body["figures"]["after"]["clean_accuracy"] -= 0.01
    body["versions"]["torch"] = "2.0.0"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(body))
    differs = serve.command("replay", str(other), "--suspect", model, "--clean", clean)
    assert differs.returncode == 8, differs.stderr
    assert "after.clean_accuracy" in differs.stdout
    assert "versions.torch" in differs.stdout

    another = noisy(example.model, tmp_path / "another.safetensors")
    wrong = serve.command("replay", str(manifest), "--suspect", str(another))
    assert wrong.returncode == 1
    assert "is not the job's suspect" in wrong.stderr
    assert "is no manifest" in serve.command("replay", str(attestation)).stderr

    public = tmp_path / "service.pub"
    public.write_text(serve.command("signing-key").stdout)
    serve.process.terminate()
    signed = ("verify", "--attestation", str(attestation), "--public-key", str(public))
    assert serve.command(*signed, str(weights), str(manifest), model, clean).returncode == 0
    assert serve.command(*signed, str(weights), str(other)).returncode == 1
    assert "Give --manifest, or" in serve.command("verify", str(weights)).stderr
