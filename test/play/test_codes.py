"""Every scenario of codes/ and flows/, each as a test. They are played side by side when the first is asked for."""
import asyncio
import pathlib

import pytest

import play
import targets

HERE = pathlib.Path(__file__).resolve().parent
PAIRS = [(path, way) for folder in ("codes", "flows") for path in sorted((HERE / folder).glob("*.play"))
         for way in play.ways(path)]


def name_of(pair):
    return "%s-%s" % (pair[0].relative_to(HERE).with_suffix(""), pair[1])


@pytest.fixture(scope="module")
def played(request):
    try:
        targets.comfymux("serve")
    except targets.Missing as e:
        targets.skip_or_fail(e)
    wanted = [i.callspec.params["pair"] for i in request.session.items
              if i.path.name == pathlib.Path(__file__).name and hasattr(i, "callspec")]
    return asyncio.run(play.play_all(wanted))


@pytest.mark.parametrize("pair", PAIRS, ids=name_of)
def test_scenario(pair, played):
    assert played[pair] is None, "\n" + played[pair]


def test_every_code_has_a_scenario():
    """The closed list of src/store/record.c, against what `everywhere` is asked for."""
    source = (targets.ROOT / "src/store/record.c").read_text().split("code_names[JOB_CODES] = {")[1].split("};")[0]
    codes = {line.split('"')[1] for line in source.splitlines() if '"' in line} - {"ok"}
    checked = {line.words[1] for path in (HERE / "codes").glob("*.play") for block in play.read(path)
               for line in block.lines if line.words[0] == "everywhere"}
    assert len(codes) == 17 and codes == checked
