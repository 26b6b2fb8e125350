"""MDETR (arXiv 2104.12763) as a plain PyTorch network: the baseline that this project's figures are compared with.

It is built as the published model is, from torchvision's ResNet with unfused frozen batch norm, transformers'
RoBERTa with eager attention, and nn.MultiheadAttention with its default (averaged weights) path. Parameter names
are those of the published checkpoints. B images, Q queries, T text tokens, S = h * w + T, L decoder layers, d width.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d
from transformers import RobertaConfig, RobertaModel

NUM_CLASSES = 256  # soft tokens; the last column is also "no object"

ROBERTA_BASE = {
    "vocab_size": 50265,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}


@dataclass
class Config:
    """Sizes of the network; the defaults are those of the published pre-training."""

    backbone: str = "resnet101"
    hidden_dim: int = 256
    nheads: int = 8
    enc_layers: int = 6
    dec_layers: int = 6
    dim_feedforward: int = 2048
    num_queries: int = 100
    contrastive_hdim: int = 64
    dropout: float = 0.1
    text: dict = field(default_factory=lambda: dict(ROBERTA_BASE))


class Batch(NamedTuple):
    """A padded batch: the network's input."""

    images: Tensor  # (B, 3, H, W) f32, normalised
    padding_mask: Tensor  # (B, H, W) bool, true on padded pixels
    input_ids: Tensor  # (B, T) i64
    attention_mask: Tensor  # (B, T) i64, 1 on real tokens


class Outputs(NamedTuple):
    """What the heads predict after every decoder layer, last layer last."""

    pred_logits: Tensor  # (L, B, Q, 256)
    pred_boxes: Tensor  # (L, B, Q, 4), cxcywh in [0, 1]
    proj_queries: Tensor  # (L, B, Q, c), unit length
    proj_tokens: Tensor  # (B, T, c), unit length


class Backbone(nn.Module):
    """A ResNet up to its last stage; the stem and the first stage are not trained."""

    def __init__(self, name: str):
        super().__init__()
        resnet = getattr(torchvision.models, name)(weights=None, norm_layer=FrozenBatchNorm2d)
        self.num_channels = resnet.fc.in_features
        self.body = IntermediateLayerGetter(resnet, {"layer4": "features"})
        for parameter_name, parameter in self.body.named_parameters():
            parameter.requires_grad_(parameter_name.startswith(("layer2", "layer3", "layer4")))

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)["features"]


class PositionEmbeddingSine(nn.Module):
    """Sines and cosines of the valid row and column numbers, scaled to 2 pi over the valid area."""

    def __init__(self, hidden_dim: int):
        super().__init__()
        self.features_per_axis = hidden_dim // 2

    def encode(self, coordinate: Tensor) -> Tensor:
        """(B, h, w) -> (B, h, w, d / 2): sine and cosine interleaved, wavelengths from 2 pi to 10000 * 2 pi."""
        pair = torch.arange(self.features_per_axis, device=coordinate.device) // 2
        angle = coordinate[..., None] / 10000.0 ** (2 * pair / self.features_per_axis)
        return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=-1).flatten(-2)

    def forward(self, padding_mask: Tensor) -> Tensor:
        valid = ~padding_mask
        rows = valid.cumsum(1, dtype=torch.float32)
        columns = valid.cumsum(2, dtype=torch.float32)
        rows = rows / (rows[:, -1:, :] + 1e-6) * (2 * math.pi)
        columns = columns / (columns[:, :, -1:] + 1e-6) * (2 * math.pi)
        return torch.cat((self.encode(rows), self.encode(columns)), dim=-1).permute(0, 3, 1, 2)  # (B, d, h, w)


class FeatureResizer(nn.Module):
    """Projects the text encoder's width to the transformer's."""

    def __init__(self, text_dim: int, hidden_dim: int, dropout: float):
        super().__init__()
        self.fc = nn.Linear(text_dim, hidden_dim)
        self.layer_norm = nn.LayerNorm(hidden_dim, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, text: Tensor) -> Tensor:
        return self.dropout(self.layer_norm(self.fc(text)))


class EncoderLayer(nn.Module):
    """Post-norm self-attention over image and text tokens, then a feed-forward network."""

    def __init__(self, config: Config):
        super().__init__()
        d, ff, p = config.hidden_dim, config.dim_feedforward, config.dropout
        self.self_attn = nn.MultiheadAttention(d, config.nheads, dropout=p)
        self.linear1, self.linear2 = nn.Linear(d, ff), nn.Linear(ff, d)
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor, position: Tensor, padding_mask: Tensor) -> Tensor:
        q = k = x + position
        x = self.norm1(x + self.dropout(self.self_attn(q, k, x, key_padding_mask=padding_mask)[0]))
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class DecoderLayer(nn.Module):
    """Post-norm self-attention of the queries, cross-attention to the memory, then a feed-forward network."""

    def __init__(self, config: Config):
        super().__init__()
        d, ff, p = config.hidden_dim, config.dim_feedforward, config.dropout
        self.self_attn = nn.MultiheadAttention(d, config.nheads, dropout=p)
        self.cross_attn_image = nn.MultiheadAttention(d, config.nheads, dropout=p)
        self.linear1, self.linear2 = nn.Linear(d, ff), nn.Linear(ff, d)
        self.norm1, self.norm3, self.norm4 = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(d)
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor, query: Tensor, memory: Tensor, position: Tensor, padding_mask: Tensor) -> Tensor:
        q = k = x + query
        x = self.norm1(x + self.dropout(self.self_attn(q, k, x)[0]))
        attended = self.cross_attn_image(x + query, memory + position, memory, key_padding_mask=padding_mask)[0]
        x = self.norm3(x + self.dropout(attended))
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm4(x + self.dropout(self.linear2(hidden)))


class Encoder(nn.Module):
    """A stack of encoder layers."""

    def __init__(self, config: Config):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.enc_layers))

    def forward(self, x: Tensor, position: Tensor, padding_mask: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, position, padding_mask)
        return x  # (S, B, d)


class Decoder(nn.Module):
    """A stack of decoder layers; one norm, shared, after each."""

    def __init__(self, config: Config):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.dec_layers))
        self.norm = nn.LayerNorm(config.hidden_dim)

    def forward(self, query: Tensor, memory: Tensor, position: Tensor, padding_mask: Tensor) -> Tensor:
        x = torch.zeros_like(query)
        states = []
        for layer in self.layers:
            x = layer(x, query, memory, position, padding_mask)
            states.append(self.norm(x))
        return torch.stack(states).transpose(1, 2)  # (L, B, Q, d)


class Transformer(nn.Module):
    """The text encoder and the transformer that reads image and text as one sequence, sequence axis first."""

    def __init__(self, config: Config):
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.text_encoder = RobertaModel(RobertaConfig(**config.text, attn_implementation="eager"))
        self.resizer = FeatureResizer(config.text["hidden_size"], config.hidden_dim, config.dropout)

    def forward(
        self, features: Tensor, feature_mask: Tensor, position: Tensor, query_embed: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """Returns the decoder's states (L, B, Q, d) and the encoder's output for the text (T, B, d)."""
        encoded = self.text_encoder(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        text = self.resizer(encoded.last_hidden_state.transpose(0, 1))  # (T, B, d)
        image = features.flatten(2).permute(2, 0, 1)  # (h * w, B, d)
        position = position.flatten(2).permute(2, 0, 1)
        position = torch.cat((position, torch.zeros_like(text)))  # text has no position here
        padding_mask = torch.cat((feature_mask.flatten(1), batch.attention_mask != 1), dim=1)  # (B, S)
        memory = self.encoder(torch.cat((image, text)), position, padding_mask)
        query = query_embed[:, None].expand(-1, features.shape[0], -1)
        states = self.decoder(query, memory, position, padding_mask)
        return states, memory[-text.shape[0] :]


class MLP(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, hidden_dim: int, output_dim: int):
        super().__init__()
        dims = (hidden_dim, hidden_dim, hidden_dim, output_dim)
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in zip(dims, dims[1:]))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class MDETR(nn.Module):
    """Backbone, transformer, and the class, box and contrastive alignment heads."""

    def __init__(self, config: Config):
        super().__init__()
        d = config.hidden_dim
        self.transformer = Transformer(config)
        self.class_embed = nn.Linear(d, NUM_CLASSES)
        self.bbox_embed = MLP(d, 4)
        self.query_embed = nn.Embedding(config.num_queries, d)
        backbone = Backbone(config.backbone)
        self.input_proj = nn.Conv2d(backbone.num_channels, d, kernel_size=1)
        self.backbone = nn.Sequential(backbone, PositionEmbeddingSine(d))  # a pair: each is called on its own
        self.contrastive_align_projection_image = nn.Linear(d, config.contrastive_hdim)
        self.contrastive_align_projection_text = nn.Linear(d, config.contrastive_hdim)

    def forward(self, batch: Batch) -> Outputs:
        backbone, position_embedding = self.backbone
        features = backbone(batch.images)  # (B, C, h, w)
        mask = F.interpolate(batch.padding_mask[:, None].float(), size=features.shape[-2:])[:, 0].bool()
        states, text = self.transformer(
            self.input_proj(features), mask, position_embedding(mask), self.query_embed.weight, batch
        )
        return Outputs(
            pred_logits=self.class_embed(states),
            pred_boxes=self.bbox_embed(states).sigmoid(),
            proj_queries=F.normalize(self.contrastive_align_projection_image(states), dim=-1),
            proj_tokens=F.normalize(self.contrastive_align_projection_text(text).transpose(0, 1), dim=-1),
        )
