"""Nested plain values and arrays in one safetensors file: the only format that checkpoints use.

Arrays are stored bit for bit; everything else (numbers, strings, lists, None) travels as JSON in
the file's metadata. Nothing is pickled, so a checkpoint can be read without trusting it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

_TORCH, _NUMPY = "torch", "numpy"


def save_tree(path: Path, tree: dict[str, Any]) -> None:
    """Write nested dicts and lists of plain values, tensors and NumPy arrays to ``path``.

    Raises:
        TypeError: A leaf is neither plain (JSON) nor an array.
    """
    tensors: dict[str, torch.Tensor] = {}

    def describe(node: Any, name: str) -> Any:
        if isinstance(node, torch.Tensor):
            tensors[name] = node.detach().cpu().contiguous().clone()
            return {"__array__": name, "kind": _TORCH}
        if isinstance(node, np.ndarray):
            tensors[name] = torch.from_numpy(np.ascontiguousarray(node).reshape(-1).copy())
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

    structure = json.dumps(describe(tree, ""))
    save_file(tensors, path, metadata={"tree": structure})


def load_tree(path: Path) -> dict[str, Any]:
    """Read what ``save_tree`` wrote (tuples come back as lists)."""
    with safe_open(path, framework="pt") as file:
        structure = json.loads(file.metadata()["tree"])

        def rebuild(node: Any) -> Any:
            if isinstance(node, list):
                return [rebuild(child) for child in node]
            if not isinstance(node, dict):
                return node
            if "__array__" in node:
                tensor = file.get_tensor(node["__array__"])
                if node["kind"] == _TORCH:
                    return tensor
                return tensor.numpy().reshape(node["shape"])
            return {key: rebuild(child) for key, child in node["__dict__"]}

        tree = rebuild(structure)
    assert isinstance(tree, dict)
    return tree
