"""Small checkpoints whose own files are quantised, in the layouts that publishers use."""

import json
import shutil
from pathlib import Path

BLOCK = 32
LARGEST = {"fp8": 448.0, "int8": 127.0}


def rewritten(base, folder, tensors=None, **config):
    """Copy a checkpoint with other tensors and further keys in its config.json."""
    from safetensors.torch import save_file

    shutil.copytree(base, folder, dirs_exist_ok=True)
    if tensors is not None:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    file = Path(folder) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


def linear(base):
    """Return all tensors of a checkpoint, and the names of those that formats quantise."""
    from safetensors.torch import load_file

    tensors = load_file(base / "model.safetensors")
    return tensors, [name for name in tensors if name.endswith("proj.weight")]


def block_fp8(base, folder, **section):
    """FP8 in blocks, with scales of their own, as DeepSeek and Qwen publish."""
    import torch

    tensors, names = linear(base)
    for name in names:
        rows, columns = (side // BLOCK for side in tensors[name].shape)
        blocks = tensors[name].reshape(rows, BLOCK, columns, BLOCK)
        scales = blocks.abs().amax((1, 3)) / LARGEST["fp8"]
        scaled = (blocks / scales[:, None, :, None]).reshape(tensors[name].shape)
        tensors |= {name: scaled.to(torch.float8_e4m3fn), f"{name}_scale_inv": scales}
        if section.get("activation_scheme") == "static":
            tensors[name.removesuffix("weight") + "activation_scale"] = torch.tensor(0.5)
    settings = {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "weight_block_size": [BLOCK, BLOCK],
        "modules_to_not_convert": ["lm_head"],
    }
    return rewritten(base, folder, tensors, quantization_config=settings | section)


def compressed(base, folder, kind):
    """compressed-tensors with a scale for each row: ``fp8`` or ``int8``."""
    import torch

    tensors, names = linear(base)
    for name in names:
        scales = tensors[name].abs().amax(1, keepdim=True) / LARGEST[kind]
        scaled = tensors[name] / scales
        number = torch.float8_e4m3fn if kind == "fp8" else torch.int8
        scaled = scaled.round() if kind == "int8" else scaled
        tensors |= {name: scaled.to(number), f"{name}_scale": scales}
    number = {"num_bits": 8, "type": "float" if kind == "fp8" else "int", "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": number | {"strategy": "channel", "dynamic": False},
        "input_activations": number | {"strategy": "token", "dynamic": True},
    }
    section = {
        "quant_method": "compressed-tensors",
        "format": "float-quantized" if kind == "fp8" else "int-quantized",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "quantization_status": "compressed",
    }
    return rewritten(base, folder, tensors, quantization_config=section)


def gpt_oss_mxfp4(folder):
    """A mixture of experts whose expert weights are MXFP4: pairs of 4-bit numbers in bytes, an exponent for each 32."""
    import torch
    from safetensors.torch import load_file
    from tiny_models import make_checkpoint

    plain = make_checkpoint(folder.with_name("gpt-oss"), build=_gpt_oss)
    tensors = load_file(plain / "model.safetensors")
    torch.manual_seed(0)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = tensors.pop(name).shape
        blocks = torch.randint(0, 256, (experts, outputs, inputs // BLOCK, BLOCK // 2))
        scales = torch.randint(122, 126, (experts, outputs, inputs // BLOCK))
        tensors |= {
            f"{name}_blocks": blocks.to(torch.uint8),
            f"{name}_scales": scales.to(torch.uint8),
        }
    section = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    return rewritten(plain, folder, tensors, quantization_config=section)


def _gpt_oss(size, **shape):
    from transformers import GptOssConfig, GptOssForCausalLM

    more = {
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
    }
    small = shape | {"intermediate_size": 32, "num_hidden_layers": 1, "rope_scaling": None}
    return GptOssForCausalLM(GptOssConfig(**size, **small, **more))
