"""Running a peer: put a state into it, change one tensor, ask for logits, all in float64."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from peers.cases import Case
from peers.seeded import State, perturbed, seeded_frames, seeded_state, seeded_video

Shapes = dict[str, tuple[int, ...]]


def arranged(video: np.ndarray, layout: str) -> np.ndarray:
    """A video [B, T, C, H, W] as a source takes it."""
    if layout == "frames":
        return video.reshape(-1, *video.shape[2:])  # [B*T, C, H, W]
    if layout == "image":
        return video[:, 0]  # [B, C, H, W]
    return video.transpose(0, 2, 1, 3, 4) if layout == "channels first" else video


def case_video(case: Case) -> np.ndarray:
    """The input [B, T, C, H, W]; where image networks are compared, each frame is the first."""
    if case.norm is not None:
        return seeded_frames(case.video, case.seed)
    video = seeded_video(case.video, case.seed)
    return np.repeat(video[:, :1], case.video[1], axis=1) if case.compare == "features" else video


class Peer:
    """`shapes` are those of the state of the source: name -> shape."""

    shapes: Shapes

    def set_tensor(self, name: str, value: np.ndarray) -> None:
        raise NotImplementedError

    def __call__(self, video: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def load(self, state: State) -> None:
        assert sorted(state) == sorted(self.shapes)
        for name, value in state.items():
            self.set_tensor(name, value)


class TorchPeer(Peer):
    def __init__(self, module: Any, case: Case) -> None:
        import torch
        from torch import nn

        assert isinstance(module, nn.Module)
        self.torch, self.layout, self.case = torch, case.layout, case
        self.module = module.double().eval()
        if case.container.startswith("transformers"):
            from peers.hugging_face import Logits, file_names

            self.names = file_names(module)
            self.run: nn.Module = Logits(module)
        else:
            self.names = {case.prefix + name: name for name in module.state_dict()}
            self.run = module
        self.own = self.module.state_dict()
        self.shapes = {name: tuple(self.own[own].shape) for name, own in self.names.items()}

    def set_tensor(self, name: str, value: np.ndarray) -> None:
        target = self.own[self.names[name]]
        assert target.shape == value.shape
        target.copy_(self.torch.from_numpy(value))

    def __call__(self, video: np.ndarray) -> np.ndarray:
        with self.torch.inference_mode():
            x = self.torch.from_numpy(np.ascontiguousarray(arranged(video, self.layout), np.float64))
            return self.run(x).numpy()

    def float32(self, video: np.ndarray) -> np.ndarray:
        """The same in float32, the precision of the files."""
        self.module.float()
        with self.torch.inference_mode():
            answer = self.run(self.torch.from_numpy(np.ascontiguousarray(arranged(video, self.layout)))).numpy()
        self.module.double()
        self.own = self.module.state_dict()
        return answer


class PaddlePeer(Peer):
    def __init__(self, module: Any, case: Case) -> None:
        import paddle

        self.paddle, self.layout = paddle, case.layout
        self.module = module.to(dtype="float64")
        self.module.eval()
        self.own = module.state_dict()
        self.shapes = {name: tuple(value.shape) for name, value in self.own.items()}

    def set_tensor(self, name: str, value: np.ndarray) -> None:
        self.own[name].set_value(value.astype("float64"))

    def __call__(self, video: np.ndarray) -> np.ndarray:
        with self.paddle.no_grad():
            x = np.ascontiguousarray(arranged(video, self.layout), np.float64)
            return self.module(self.paddle.to_tensor(x)).numpy()


def build_peer(case: Case, **changes: Any) -> Peer:
    """The network of the source; `changes` to the arguments that the case has for it."""
    module_name, _, builder = case.peer.partition(":")
    network = getattr(importlib.import_module(f"peers.{module_name}"), builder)(**{**case.peer_options, **changes})
    return (PaddlePeer if module_name == "paddlevideo" else TorchPeer)(network, case)


def reference(case: Case, peer: Peer) -> tuple[State, np.ndarray, np.ndarray]:
    """The seeded state, now in the peer, the video and the peer's answer to it."""
    state, video = seeded_state(peer.shapes, case.seed), case_video(case)
    peer.load(state)
    return state, video, peer(video)


def change_of(peer: Peer, state: State, name: str, video: np.ndarray, answer: np.ndarray, seed: int) -> np.ndarray:
    """How the answer moves when one tensor is perturbed; the peer is left as it was."""
    peer.set_tensor(name, perturbed(name, state[name], seed))
    moved = peer(video) - answer
    peer.set_tensor(name, state[name])
    return moved
