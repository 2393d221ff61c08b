"""Stores nested plain values and arrays in one safetensors file, the format of checkpoints.

Arrays are stored bit for bit; everything else (numbers, strings, lists, None) is JSON in the file's
metadata. Nothing is pickled, so reading an untrusted checkpoint runs no code.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

_TORCH, _NUMPY = "torch", "numpy"


def save_tree(path: Path, tree: dict[str, Any]) -> None:
    """Write nested dicts and lists of plain values, tensors and NumPy arrays to ``path``.

    Raises:
        TypeError: A leaf is neither plain (JSON) nor an array.
    """
    # Torch takes seconds to import; if nothing has imported it, no node can be its tensor.
    torch = sys.modules.get("torch")
    arrays: dict[str, Any] = {}

    def describe(node: Any, name: str) -> Any:
        if torch is not None and isinstance(node, torch.Tensor):
            arrays[name] = node.detach().cpu().contiguous().clone()
            return {"__array__": name, "kind": _TORCH}
        if isinstance(node, np.ndarray):
            arrays[name] = np.ascontiguousarray(node).reshape(-1)
            return {"__array__": name, "kind": _NUMPY, "shape": list(node.shape)}
        if isinstance(node, dict):
            return {
                "__dict__": [[key, describe(child, f"{name}/{key}")] for key, child in node.items()]
            }
        if isinstance(node, (list, tuple)):
            return [describe(child, f"{name}/{index}") for index, child in enumerate(node)]
        if node is None or isinstance(node, (bool, int, float, str)):
            return node
        raise TypeError(f"{name}: cannot store a {type(node).__name__} in a checkpoint")

    metadata = {"tree": json.dumps(describe(tree, ""))}
    # The library's own writer hides why a file could not be written, e.g. that the disk is full.
    if all(isinstance(array, np.ndarray) for array in arrays.values()):
        from safetensors.numpy import save as encode_arrays

        path.write_bytes(encode_arrays(arrays, metadata))
    else:
        import torch as torch_
        from safetensors.torch import save as encode_tensors

        tensors = {name: torch_.as_tensor(array) for name, array in arrays.items()}
        path.write_bytes(encode_tensors(tensors, metadata))


def load_tree(path: Path) -> dict[str, Any]:
    """Read what ``save_tree`` wrote (tuples come back as lists)."""
    with safe_open(path, framework="np") as file:
        text = file.metadata()["tree"]
    structure = json.loads(text)
    with safe_open(path, framework="pt" if f'"kind": "{_TORCH}"' in text else "np") as file:

        def rebuild(node: Any) -> Any:
            if isinstance(node, list):
                return [rebuild(child) for child in node]
            if not isinstance(node, dict):
                return node
            if "__array__" in node:
                array = file.get_tensor(node["__array__"])
                if node["kind"] == _TORCH:
                    return array
                return np.asarray(array).reshape(node["shape"])
            return {key: rebuild(child) for key, child in node["__dict__"]}

        tree = rebuild(structure)
    assert isinstance(tree, dict)
    return tree
