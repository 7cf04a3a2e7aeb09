"""Exercises of lesson 09: DINO's step and its teacher. Source: Caron et al. 2021, section 3.1 and algorithm 1."""

import torch
from torch import Tensor, nn

from vit_edu import models
from vit_edu.exercises.core import Draw, Exercise
from vit_edu.exercises.trial import AnswerError


def reads(weight):
    """A network so small that it can be seen through: the crops' mean colours (B, C) times weight (C, K)."""
    return weight if callable(weight) else lambda crop: crop.mean(dim=(-2, -1)) @ weight


def dino_step(student, teacher, crops: list[Tensor], center: Tensor) -> tuple[Tensor, Tensor]:
    """One look at V crops (B, C, H, W), the two global ones first -> the loss (), and the next centre (K,)."""
    student_logits = [student(crop) for crop in crops]
    with torch.no_grad():
        teacher_logits = [teacher(crop) for crop in crops[:2]]
    return models.dino_loss(student_logits, teacher_logits, center), models.update_center(center, teacher_logits)


def views(draw: Draw):
    """Global crops of 4 x 4, local ones of 2 x 2. In one case 2 B = K, so that a mean over the wrong axis runs."""
    for V, B, C, K in ((2, 1, 2, 3), (3, 2, 2, 4), (4, 3, 2, 5), (5, 3, 4, 6), (6, 4, 3, 7)):
        crops = [0.5 * draw.normal(B, C, *((4, 4) if i < 2 else (2, 2))) for i in range(V)]
        yield draw.normal(C, K), draw.normal(C, K), crops, 0.1 * draw.normal(K)


step = Exercise(
    "dino_step",
    lesson="09",
    points=3,
    reference=dino_step,
    cases=views,
    returns=("loss", "center"),
    call=lambda mine, student, teacher, crops, center: mine(reads(student), reads(teacher), crops, center.detach()),
    ready_made=(models.update_center,),
    hints=(
        "Who looks at what? The student at every crop, the teacher at the two large ones. Then the loss, with the "
        "centre as it is. Last the next centre, from the teacher's answers.",
        "student_logits: V times (B, K); teacher_logits: 2 times (B, K). The batch's mean of the latter is a mean over "
        "2·B rows: (K,). The next centre is nine tenths of the old one and a tenth of this mean.",
        "student_logits = [student(crop) for crop in crops]\nwith torch.no_grad():\n    teacher_logits = [... for crop "
        "in crops[...]]\nloss = dino_loss(student_logits, teacher_logits, center)\n"
        "mean = torch.cat(teacher_logits).mean(dim=...)\nreturn loss, 0.9 * ... + 0.1 * ...",
    ),
)


@step.recipe
def dino_step_in_steps(
    student,
    teacher,
    crops,
    center,
    *,
    learns=lambda crops: crops,
    tells=lambda crops: crops[:2],
    heard=lambda said, told: [x.detach() for x in told],
    mean=lambda logits: torch.cat(logits).mean(dim=0),
    move=lambda old, new: 0.9 * old + 0.1 * new,
    used=lambda old, new: old,
):
    center = center.detach()
    said, told = [reads(student)(x) for x in learns(crops)], [reads(teacher)(x) for x in tells(crops)]
    new = move(center, mean(heard(said, told)))
    return models.dino_loss(said, told, used(center, new.detach())), new


step.mistake(
    "the teacher sees all crops",
    "Your teacher answers small crops too. It is asked for the whole; from a small part even it can only guess.",
    tells=lambda crops: crops,
)
step.mistake(
    "the teacher sees one crop only",
    "Your teacher looks at the first crop alone, so nobody answers the student's first. How many global crops are "
    "there?",
    tells=lambda crops: crops[:1],
)
step.mistake(
    "the student sees the global crops only",
    "Your student never sees a small crop. Local to global is what it should learn.",
    learns=lambda crops: crops[:2],
)
step.mistake(
    "the student sees the local crops only",
    "Your student does not see the large crops: then numbers of crops mean different crops to the two, and wrong pairs "
    "are left out.",
    learns=lambda crops: crops[2:] or crops,
)
step.mistake(
    "the centre from the student",
    "You take the mean of the student's answers. Whose answers is the centre taken off from?",
    heard=lambda said, told: [x.detach() for x in said],
)
step.mistake(
    "the centre keeps the graph",
    "The values are right, but the next centre hangs on the graph of this step, and that of the step after on both: "
    "memory fills, and a gradient finds its way to the teacher. Where do no_grad() or detach() belong?",
    heard=lambda said, told: told,
)
step.mistake(
    "the mean over the outputs",
    "You take the mean along each picture's outputs. The centre has one number for each *output*: which axis counts "
    "the pictures?",
    mean=lambda logits: torch.cat(logits).mean(dim=1),
)
step.mistake(
    "one number for all outputs",
    "Your mean is a single number. Taking the same off all logits changes no softmax at all.",
    mean=lambda logits: torch.cat(logits).mean(),
)
step.mistake(
    "the mean of the first crop only",
    "You use one of the teacher's two crops. Both count.",
    mean=lambda logits: logits[0].mean(dim=0),
)
step.mistake(
    "a sum over the pictures",
    "Your centre grows with the batch. It is a mean of the teacher's rows.",
    mean=lambda logits: torch.cat(logits).sum(dim=0),
)
step.mistake(
    "a centre of probabilities",
    "You average after the softmax. The centre is taken off logits, so it is a mean of logits.",
    mean=lambda logits: torch.cat(logits).softmax(dim=-1).mean(dim=0),
)
step.mistake(
    "momentum the wrong way round",
    "Your centre forgets nine tenths at each step. One batch is a poor mean: which of the two is to count 0.9?",
    move=lambda old, new: 0.1 * old + 0.9 * new,
)
step.mistake(
    "the centre of this batch alone",
    "You forget the old centre. A mean of one batch jumps about; keep nine tenths of the old one.",
    move=lambda old, new: new,
)
step.mistake(
    "the centre never moves",
    "You return the centre that you were given.",
    move=lambda old, new: old,
)
step.mistake(
    "the centre is moved before the loss",
    "You take the new centre for this loss. The published order is loss first: this batch must not judge itself.",
    used=lambda old, new: new,
)


@step.invariance("more small crops do not move the centre")
def small_ones_do_not_count(mine, draw):
    student, teacher, crops, center = list(views(draw))[3]
    return torch.allclose(mine(student, teacher, crops, center)[1], mine(student, teacher, crops[:3], center)[1])


def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Every weight of the teacher moves to the student's by 1 - momentum, in place."""
    with torch.no_grad():
        for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
            mine.mul_(momentum).add_((1 - momentum) * theirs)


def call_update(mine, teacher, student, momentum):
    """Puts the weights into two networks, calls `mine`, and takes out what is in them then."""
    networks = []
    for weight, bias in (teacher, student):
        network = nn.Sequential(nn.Linear(*weight.shape[::-1], dtype=weight.dtype))  # no attributes of known names
        network.load_state_dict({"0.weight": weight.detach(), "0.bias": bias.detach()})
        networks.append(network)
    networks[0].requires_grad_(False)
    mine(*networks, momentum)
    after = [list(network.parameters()) for network in networks]
    if any(x.data_ptr() == y.data_ptr() for x, y in zip(*after, strict=True)):
        raise AnswerError("Teacher and student now share their memory: what the student learns next, both will know.")
    if any(x.requires_grad for x in after[0]):
        raise AnswerError(
            "After your update the teacher's weights require a gradient. New parameters do, and so does what hangs on "
            "the student's graph, which grows with every step. Change the old ones in place; where does "
            "torch.no_grad() belong?"
        )
    if not all(x.requires_grad for x in after[1]):
        raise AnswerError("After your update the student's weights require no gradient any more: it cannot learn.")
    return tuple(x.detach() for x in (*after[0], *after[1]))


def weights(draw: Draw):
    for rows, columns, momentum in ((1, 1, 0.5), (1, 2, 0.9), (3, 2, 0.75), (2, 4, 0.996), (3, 5, 1.0), (4, 3, 0.0)):
        teacher, student = ((draw.normal(rows, columns), draw.normal(rows)) for _ in range(2))
        yield teacher, student, momentum


teacher = Exercise(
    "update_teacher",
    lesson="09",
    points=2,
    reference=update_teacher,
    cases=weights,
    returns=("teacher's weight", "teacher's bias", "student's weight", "student's bias"),
    call=call_update,
    hints=(
        "Go through the parameters of both networks side by side. Each of the teacher's becomes a mean of what it was "
        "and what the student's is. It must change where it lies: an equals sign gives a name to something new.",
        "momentum counts for what the teacher was, 1 − momentum for what the student is. Methods that end in _ change "
        "a tensor in place; around them no graph is wanted.",
        "with torch.no_grad():\n    for mine, theirs in zip(teacher.parameters(), student.parameters()):\n"
        "        mine.mul_(...).add_(... * theirs)",
    ),
)


def weights_of(network):
    """Of a network, or of what stands for one in a case."""
    return network.parameters() if isinstance(network, nn.Module) else network


@teacher.recipe
def update_in_steps(
    teacher,
    student,
    momentum,
    *,
    blend=lambda t, s, m: m * t + (1 - m) * s,
    which=lambda new, old: new,
    learner=lambda t, s, m: s,
):
    old, now = ([x.detach() for x in weights_of(network)] for network in (teacher, student))
    new = which([blend(t, s, momentum) for t, s in zip(old, now)], old)
    after = (*new, *(learner(t, s, momentum) for t, s in zip(old, now)))
    if not isinstance(teacher, nn.Module):
        return after
    with torch.no_grad():
        for x, value in zip((*weights_of(teacher), *weights_of(student)), after):
            x.copy_(value)


teacher.mistake(
    "momentum the wrong way round",
    "Your teacher runs after the student and forgets itself. momentum is near 1: which of the two should hardly "
    "change?",
    blend=lambda t, s, m: (1 - m) * t + m * s,
)
teacher.mistake(
    "nothing has changed",
    "Your teacher is as it was: `t = ...` in a loop gives the name t to a new tensor and leaves the network alone. "
    "What changes a tensor in place?",
    blend=lambda t, s, m: t,
)
teacher.mistake(
    "the student copied",
    "Your teacher is the student of this moment. It is to be a mean of many of them: what is momentum for?",
    blend=lambda t, s, m: s,
)
teacher.mistake(
    "the old teacher counts in full",
    "Your weights grow: the old teacher counts 1 and the student something more. The two shares must sum to 1.",
    blend=lambda t, s, m: t + (1 - m) * s,
)
teacher.mistake(
    "the student counts in full",
    "Your weights grow: the student counts 1, the old teacher something more. The two shares must sum to 1.",
    blend=lambda t, s, m: m * t + s,
)
teacher.mistake(
    "away from the student",
    "The difference has the wrong sign: your teacher moves away from the student.",
    blend=lambda t, s, m: t + (1 - m) * (t - s),
)
teacher.mistake(
    "a plain mean of the two",
    "You take half of each. momentum says how much stays.",
    blend=lambda t, s, m: (t + s) / 2,
)
teacher.mistake(
    "the matrices only",
    "Your biases stay behind: weight matrices from one network, biases from another. parameters() has them all.",
    which=lambda new, old: [new[0], old[1]],
)
teacher.mistake(
    "the biases only",
    "Your matrices stay behind. Does your loop end too early, or begin too late?",
    which=lambda new, old: [old[0], new[1]],
)
teacher.mistake(
    "the student is changed, not the teacher",
    "Your student takes the mean, the teacher stays. In which order stand the two in zip, and which is written to?",
    blend=lambda t, s, m: t,
    learner=lambda t, s, m: m * s + (1 - m) * t,
)
teacher.mistake(
    "both are changed",
    "Your student is pulled to the teacher as well. The student learns by gradients only.",
    learner=lambda t, s, m: m * t + (1 - m) * s,
)
