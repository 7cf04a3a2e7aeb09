"""DINO: Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers". Section 3.1, algorithm 1."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_edu.layers import init_linear
from vit_edu.layers.checks import check_at_least, check_encoder, check_positive, check_rank, check_some, complaint


def dino_loss(
    student_logits: list[Tensor], teacher_logits: list[Tensor], center: Tensor, student_temp=0.1, teacher_temp=0.04
) -> Tensor:
    """Equation 3, as a mean over the pairs: of every crop the student predicts the teacher's answer to another one.

    student_logits V times (B, K), teacher_logits mostly 2 times (B, K), center (K,) -> (). The teacher's are centred,
    so that no one output wins always, and sharpened by teacher_temp, so that they do not become uniform; they get no
    gradient. Student's and teacher's crop i are the same, and skipped. Computed in the dtype of the centre.
    Raises ValueError where there are no two crops to compare.
    """
    targets = [((x.detach() - center) / teacher_temp).softmax(dim=-1) for x in teacher_logits]  # (B, K) each
    answers = [(x.to(center.dtype) / student_temp).log_softmax(dim=-1) for x in student_logits]  # (B, K) each
    if len(targets) < 1 or len(answers) < 2:
        found = f"{len(answers)} crops of the student and {len(targets)} of the teacher"
        raise complaint(found, "2 or more and 1 or more", "give one list of logits (B, K) for each")
    pairs = [(p, log_q) for i, p in enumerate(targets) for j, log_q in enumerate(answers) if i != j]
    return sum(-(p * log_q).sum(dim=-1).mean() for p, log_q in pairs) / len(pairs)


def update_center(center: Tensor, teacher_logits: list[Tensor], momentum: float = 0.9) -> Tensor:
    """Equation 4: the moving mean (K,) of the teacher's logits, 2 times (B, K)."""
    mean = torch.cat(list(teacher_logits)).to(center.dtype).mean(dim=0)  # (2*B, K) -> (K,)
    return momentum * center + (1 - momentum) * mean


class DINOHead(nn.Module):
    """Features (B, dim) -> logits (B, out_dim), appendix C: three layers, then the cosine with each of out_dim rows.

    Of last_layer.weight only the rows' direction counts: weight normalisation with the length fixed at 1.
    """

    def __init__(self, dim: int, out_dim: int, hidden_dim: int = 2048, bottleneck_dim: int = 256):
        super().__init__()
        check_at_least(1, dim=dim, out_dim=out_dim, hidden_dim=hidden_dim, bottleneck_dim=bottleneck_dim)
        wide = [nn.Linear(dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, hidden_dim), nn.GELU()]
        self.mlp = nn.Sequential(*wide, nn.Linear(hidden_dim, bottleneck_dim)).apply(init_linear)
        self.last_layer = nn.Linear(bottleneck_dim, out_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.normalize(self.mlp(x), dim=-1)  # (B, dim) -> (B, bottleneck_dim)
        return F.linear(x, F.normalize(self.last_layer.weight, dim=-1))  # (B, bottleneck_dim) -> (B, out_dim)


class DINO(nn.Module):
    """A student, and a teacher that is the mean of earlier students: no labels, and no pairs to tell apart.

    `encoder` becomes student.backbone, trained in place; its head takes no part. Local crops, smaller than the global
    ones, need its dynamic_img_size=True. `teacher`, the better of the two, runs without gradients and drop path.

    A list of V float crops (B, C, H, W), first the two global ones -> loss (). While training the centre moves then,
    after the loss; after each step of the optimiser the loop calls update_teacher. It may set teacher_temp as well.
    model(crops, return_intermediates=True) -> (loss, seen): for crop I seen["student.I.logits"] (B, out_dim) and
    seen["student.I." + name] as the encoder names it; for crops 0 and 1 the same of the "teacher".
    Raises TypeError for another encoder and for crops in no list, ValueError for fewer than two crops, unequal batches
    and sizes that the encoder does not take; else as the encoder.
    """

    def __init__(
        self,
        encoder: nn.Module,
        out_dim: int = 65536,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        student_temp: float = 0.1,
        teacher_temp: float = 0.04,
    ):
        super().__init__()
        check_encoder(encoder)
        check_positive(student_temp=student_temp, teacher_temp=teacher_temp)
        self.student_temp, self.teacher_temp = student_temp, teacher_temp
        head = DINOHead(encoder.embed_dim, out_dim, hidden_dim, bottleneck_dim)
        self.student = nn.ModuleDict({"backbone": encoder, "head": head})
        self.teacher = deepcopy(self.student).requires_grad_(False).eval()
        self.register_buffer("center", torch.zeros(out_dim))

    def train(self, mode: bool = True) -> "DINO":
        super().train(mode)
        self.teacher.eval()
        return self

    def logits(self, name: str, crops: list[Tensor], seen: dict[str, Tensor] | None = None) -> tuple[Tensor, ...]:
        """What "student" or "teacher" says of V crops (B, C, H, W): V times (B, out_dim)."""
        network, sizes = self.get_submodule(name), {}  # (H, W) -> the crops of that size
        for i, crop in enumerate(crops):
            sizes.setdefault(crop.shape[-2:], []).append(i)
        features = [None] * len(crops)
        for same in sizes.values():  # G crops, which go through the backbone together
            own = None if seen is None else {}
            x = network.backbone.forward_features(torch.cat([crops[i] for i in same]), own)
            for i, part in zip(same, network.backbone.pool(x).chunk(len(same))):  # (G*B, dim) -> G times (B, dim)
                features[i] = part
            if seen is not None:
                for key, value in own.items():
                    seen |= {f"{name}.{i}.{key}": part for i, part in zip(same, value.chunk(len(same)))}
        logits = network.head(torch.cat(features)).chunk(len(crops))  # (V*B, dim) -> (V*B, K) -> V times (B, K)
        if seen is not None:
            seen |= {f"{name}.{i}.logits": part for i, part in enumerate(logits)}
        return logits

    def forward(self, crops: list[Tensor], return_intermediates: bool = False) -> Tensor | tuple[Tensor, dict]:
        check_crops(crops, getattr(self.student.backbone, "patch_embed", None))
        seen = {} if return_intermediates else None
        student_logits = self.logits("student", crops, seen)
        with torch.no_grad():
            teacher_logits = self.logits("teacher", crops[:2], seen)
        loss = dino_loss(student_logits, teacher_logits, self.center, self.student_temp, self.teacher_temp)
        if self.training:
            self.center.copy_(update_center(self.center, teacher_logits))
        return (loss, seen) if return_intermediates else loss

    @torch.no_grad()
    def update_teacher(self, momentum: float = 0.996) -> None:
        """θt <- momentum θt + (1 - momentum) θs, with momentum from 0.996 to 1 along a cosine as training goes on.

        The statistics of batch norms follow as well. Raises ValueError outside [0, 1].
        """
        if not isinstance(momentum, int | float) or not 0 <= momentum <= 1:
            raise complaint(f"momentum={momentum!r}", "0 <= momentum <= 1", "0.996 moves the teacher by 0.4 %")
        for mine, theirs in zip(self.teacher.state_dict().values(), self.student.state_dict().values()):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - momentum)


def check_crops(crops: list[Tensor], patch_embed: nn.Module | None) -> None:
    if not isinstance(crops, list | tuple):
        raise complaint(f"crops of type {type(crops).__name__}", "a list of tensors", "use [crop, crop]", TypeError)
    for crop in crops:
        check_rank(crop)
        check_some(crop)
    shapes, sizes = [tuple(crop.shape[:2]) for crop in crops], {tuple(crop.shape[-2:]) for crop in crops}
    if len(crops) < 2 or len(set(shapes)) > 1:
        found = f"{len(crops)} crops with (B, C) = {shapes}"
        raise complaint(found, "two global crops or more, (B, C) the same in all", "crop every image as often")
    if not getattr(patch_embed, "dynamic_img_size", True) and sizes != {patch_embed.img_size}:
        found, remedy = f"crops of (H, W) = {sorted(sizes)}", "build the encoder with dynamic_img_size=True"
        raise complaint(found, f"{patch_embed.img_size} only", remedy)
