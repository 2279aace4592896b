"""A cache with room for more tokens holds what transformers' own holds, and copies it far less often."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import AutoConfig, DynamicCache

from ftlab.evaluation.roomy_cache import RoomyLayer, give_room
from ftlab.models import starter


def tokens(rows: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 2, count, 4), torch.randn(rows, 2, count, 4)


def same(layer: RoomyLayer, keys: torch.Tensor, values: torch.Tensor) -> bool:
    return torch.equal(layer.keys, keys) and torch.equal(layer.values, values)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_to_it_it_holds_what_it_was_given(seed):
    draw, layer = random.Random(seed), RoomyLayer()
    torch.manual_seed(seed)
    keys, values = tokens(5, 7)
    layer.update(keys, values)
    for _ in range(120):
        does = draw.choice(["add"] * 8 + ["cut", "select", "join"])
        rows = len(keys)
        if does == "add":
            new = tokens(rows, draw.choice([1, 1, 1, 40]))
            keys, values = (torch.cat(pair, dim=2) for pair in zip((keys, values), new, strict=True))
            found = layer.update(*new)
            assert torch.equal(found[0], keys) and torch.equal(found[1], values)
        elif does == "cut" and keys.shape[2] > 3:
            keys, values = keys[:, :, 2:], values[:, :, 2:]
            layer.keys, layer.values = layer.keys[:, :, 2:], layer.values[:, :, 2:]
        elif does == "select" and rows > 2:
            stay = torch.tensor(sorted(draw.sample(range(rows), rows - 1)))
            keys, values = keys[stay], values[stay]
            layer.batch_select_indices(stay)
        elif does == "join" and rows < 9:
            new = tokens(2, keys.shape[2])
            keys, values = (torch.cat(pair) for pair in zip((keys, values), new, strict=True))
            layer.replace(keys.clone(), values.clone())
        assert same(layer, keys, values) and layer.get_seq_length() == keys.shape[2]


def test_one_copy_makes_room_for_many_tokens():
    layer = RoomyLayer()
    layer.update(*tokens(3, 10))
    places = set()
    for _ in range(66):
        layer.update(*tokens(3, 1))
        places.add(layer.keys.data_ptr())
    assert len(places) == 2


def test_a_part_of_something_else_is_not_taken_for_its_own():
    """Somebody puts a slice of another tensor of the same form there: what that holds besides stays as it is."""
    layer = RoomyLayer()
    layer.update(*tokens(2, 4))
    layer.update(*tokens(2, 1))
    other = torch.zeros_like(layer._store[0])
    layer.keys, layer.values = other[:, :, :6], other[:, :, :6].clone()
    layer.update(*tokens(2, 1))
    assert not other.any() and layer.keys.shape[2] == 7 and not layer.keys[:, :, :6].any()


def test_a_cache_that_holds_something_is_left_alone():
    cache = DynamicCache(config=AutoConfig.from_pretrained(starter.starter_path()))
    give_room(cache)
    assert {type(layer) for layer in cache.layers} == {RoomyLayer} and len(cache.layers) == 6
    cache.update(*tokens(1, 3), 0)
    held = cache.layers[0]
    give_room(cache)
    assert cache.layers[0] is held
