"""The contract of an exported graph."""

import onnx
import pytest
from onnx import TensorProto

from tritonvision.ensembles.entry_points import Chain
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import CLASSES
from tritonvision.errors import ExportFailed
from tritonvision.exporters.graphs import check


@pytest.fixture
def net(family, entry):
    return family.entry_points(entry)[0].nets[0]


@pytest.fixture
def changed(graph, tmp_path):
    def change(how):
        model = onnx.load(graph)
        how(model.graph)
        onnx.save(model, tmp_path / "changed.onnx")
        return tmp_path / "changed.onnx"

    return change


def test_the_real_graph_keeps_the_contract(graph, net):
    check.check(graph, net)


def test_checking_changes_no_file_and_leaves_none_behind(changed, net):
    graph = changed(lambda _: None)
    before = graph.read_bytes()
    check.check(graph, net)
    assert graph.read_bytes() == before and list(graph.parent.iterdir()) == [graph]


def test_another_size_another_head_and_a_fixed_batch_are_refused(graph, changed, family, entry, net):
    with pytest.raises(ExportFailed, match=r"input 'pixels' is UINT8 \[-1, 128, 128, 3\], not UINT8 \[-1, 64, 64, 3\]"):
        check.check(graph, Chain(Resize("square", 64, 64), family.head).nets[0])
    with pytest.raises(ExportFailed, match="outputs are"):
        check.check(graph, Chain(family.resize(entry), CLASSES).nets[0])

    def fix_batch(model_graph):
        axis = model_graph.input[0].type.tensor_type.shape.dim[0]
        axis.ClearField("dim_param")
        axis.dim_value = 1

    with pytest.raises(ExportFailed, match="pixels"):
        check.check(changed(fix_batch), net)


def test_a_graph_that_breaks_onnx_is_refused(changed, net):
    def unconnect(model_graph):
        model_graph.node[3].input[0] = "nowhere"

    with pytest.raises(ExportFailed, match="ONNX checker"):
        check.check(changed(unconnect), net)


def test_a_wrong_type_is_refused(changed, net):
    def retype(model_graph):
        model_graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE

    with pytest.raises(ExportFailed):
        check.check(changed(retype), net)


def test_what_is_no_graph_at_all_is_refused(tmp_path, net):
    path = tmp_path / "model.onnx"
    for data in (b"", b"no graph", b"\xff" * 100):
        path.write_bytes(data)
        with pytest.raises(ExportFailed):
            check.check(path, net)
