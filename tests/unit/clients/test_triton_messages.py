"""Messages to and from Triton are those that its own client makes and reads."""

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

from twinline.clients.triton.messages import arrays_of, infer_request
from twinline.contract.errors import ContractError

TEXTS = np.array([[b"how do I end a lease?"], [b""], ["Grüße, \U0001f600".encode()]], dtype=np.object_)
ROLES = np.full(TEXTS.shape, b"query", dtype=np.object_)


def test_a_request_is_the_one_that_the_vendors_client_sends() -> None:
    ours = infer_request("embed_r1", {"TEXT": TEXTS, "ROLE": ROLES}, ("EMBEDDING", "SPACE"), 1)
    sent = []
    for name, array in (("TEXT", TEXTS), ("ROLE", ROLES)):
        tensor = triton_grpc.InferInput(name, list(array.shape), "BYTES")
        tensor.set_data_from_numpy(array)
        sent.append(tensor)
    assert ours.raw_input_contents == [tensor._get_content() for tensor in sent]
    assert [(one.name, one.datatype, list(one.shape)) for one in ours.inputs] == [
        (one._get_tensor().name, one._get_tensor().datatype, list(one._get_tensor().shape)) for one in sent
    ]
    assert [one.name for one in ours.outputs] == ["EMBEDDING", "SPACE"]
    assert ours.parameters["priority"].uint64_param == 1


OUTPUTS = {
    "EMBEDDING": ("FP32", np.arange(6, dtype=np.float32).reshape(2, 3)),
    "TOKEN_COUNT": ("INT32", np.array([[3], [7]], np.int32)),
    "IDS": ("INT64", np.array([[1, 2], [3, 4]])),
    "TRUNCATED": ("BOOL", np.array([[True], [False]])),
    "SPACE": ("BYTES", np.array([[b"a space"], ["ein Größerer".encode()]], dtype=np.object_)),
}


def answer(**types: str) -> service_pb2.ModelInferResponse:
    made = service_pb2.ModelInferResponse(model_name="embed_r1")
    for name, (datatype, array) in OUTPUTS.items():
        tensor = made.outputs.add()
        tensor.name, tensor.datatype = name, types.get(name, datatype)
        tensor.shape.extend(array.shape)
        made.raw_output_contents.append(serialize_byte_tensor(array).item() if datatype == "BYTES" else array.tobytes())
    return made


def test_an_answer_is_read_as_the_vendors_client_reads_it() -> None:
    found = arrays_of(answer(), tuple(OUTPUTS))
    theirs = triton_grpc.InferResult(answer())
    for name, (_, array) in OUTPUTS.items():
        np.testing.assert_array_equal(found[name], array)
        np.testing.assert_array_equal(found[name], theirs.as_numpy(name))
        assert found[name].dtype == theirs.as_numpy(name).dtype


def test_an_output_that_is_not_there_or_of_an_unknown_type_is_refused_by_name() -> None:
    with pytest.raises(ContractError, match="no output LENGTH"):
        arrays_of(answer(), ("LENGTH",))
    with pytest.raises(ContractError, match="IDS is of type FP64"):
        arrays_of(answer(IDS="FP64"), ("IDS",))
