"""Exercise of lesson 09: DINO's loss. Source: Caron et al. 2021, section 3.1, equation 3 and algorithm 1."""

import torch

from vit_edu import models
from vit_edu.exercises.core import Draw, Exercise


def answers(draw: Draw):
    """Crops that two networks have looked at; in one case with logits too large for a plain exp."""
    for V, B, K, scale in (
        (2, 1, 2, 0.1),
        (2, 2, 3, 0.1),
        (3, 2, 4, 0.2),
        (5, 3, 6, 0.3),
        (4, 4, 5, 0.2),
        (3, 2, 7, 60),
    ):
        student, teacher = ([scale * draw.normal(B, K) for _ in range(crops)] for crops in (V, 2))
        yield student, teacher, 0.1 * draw.normal(K), 0.1, 0.04
    student, teacher = ([0.2 * draw.normal(3, 5) for _ in range(crops)] for crops in (4, 2))
    yield student, teacher, 0.1 * draw.normal(5), 0.2, 0.07


def detached_center(mine, student, teacher, center, *temps):
    return mine(student, teacher, center.detach(), *temps)


loss = Exercise(
    "dino_loss",
    lesson="09",
    points=4,
    reference=models.dino_loss,
    cases=answers,
    returns="loss",
    call=detached_center,
    hints=(
        "Make the teacher's answers first, as probabilities that are fixed. Then the logarithms of the student's. Then "
        "go through all pairs, leave out those of one and the same crop, and take the mean of their cross-entropies.",
        "Each teacher's logits (B, K), less center (K,), over teacher_temp, softmax over the K outputs: p (B, K), "
        "detached. Each student's over student_temp, log_softmax: (B, K). −(p · log q), summed over K: (B,), mean over "
        "B: (). With 2 crops of the teacher and V of the student there are 2 · V − 2 pairs.",
        "targets = [((t.detach() - center) / ...).softmax(dim=...) for t in teacher_logits]\n"
        "logs = [(s / ...).log_softmax(dim=...) for s in student_logits]\n"
        "losses = [-(p * log_q).sum(dim=...).mean()\n          for i, p in enumerate(targets) for j, log_q in "
        "enumerate(logs) if ...]\nreturn sum(losses) / len(losses)",
    ),
)


@loss.recipe
def dino_loss_in_steps(
    student_logits,
    teacher_logits,
    center,
    student_temp,
    teacher_temp,
    *,
    sharp=lambda x, center, temp: (x - center) / temp,
    soft=lambda x, center, temp: x / temp,
    temps=lambda student, teacher: (student, teacher),
    stop=torch.detach,
    share=lambda x: x.softmax(dim=-1),
    log=lambda x: x.log_softmax(dim=-1),
    cross=lambda p, log_q: -(p * log_q).sum(dim=-1).mean(),
    pairs=lambda i, j: i != j,
    mean=lambda losses, S, T: sum(losses) / len(losses),
):
    center, (warm, cold) = center.detach(), temps(student_temp, teacher_temp)
    targets = [share(stop(sharp(x, center, cold))) for x in teacher_logits]
    logs = [log(soft(x, center, warm)) for x in student_logits]
    losses = [cross(p, q) for i, p in enumerate(targets) for j, q in enumerate(logs) if pairs(i, j)]
    return mean(losses, len(logs), len(targets))


loss.mistake(
    "the teacher gets gradients",
    "The loss is right, but it would pull the teacher to the student as well. A teacher who gives in meets you half "
    "way, and that is where everything is the same. Which call stops a gradient?",
    stop=lambda x: x,
)
loss.mistake(
    "no centring",
    "center is not used. An output that is a little larger on all pictures would soon win on all of them.",
    sharp=lambda x, center, temp: x / temp,
)
loss.mistake(
    "the student is centred as well",
    "You take the centre off both. The student must learn what the centred teacher says; nobody helps it.",
    soft=lambda x, center, temp: (x - center) / temp,
)
loss.mistake(
    "the centre is added",
    "You add the centre. What the teacher says of every picture is to be taken off, not doubled.",
    sharp=lambda x, center, temp: (x + center) / temp,
)
loss.mistake(
    "centred after the sharpening",
    "You divide first and take the centre off then, so it counts too little: it is a mean of logits, and logits are "
    "what it must be taken from.",
    sharp=lambda x, center, temp: x / temp - center,
)
loss.mistake(
    "the teacher is not sharpened",
    "You divide the teacher's logits by the student's temperature. The teacher must be surer than the student, or "
    "nothing drives the student to decide.",
    temps=lambda student, teacher: (student, student),
)
loss.mistake(
    "temperatures exchanged",
    "Your student is sharper than your teacher. Which of the two is to set an example of being sure?",
    temps=lambda student, teacher: (teacher, student),
)
loss.mistake(
    "no temperature at all",
    "Neither of your networks is sharpened. Logits here are small: softmax of them as they are is nearly uniform.",
    temps=lambda student, teacher: (1.0, 1.0),
)
loss.mistake(
    "multiplied by the temperature",
    "You multiply by the temperatures. 0.04 must make an answer sharper: does a number grow when multiplied by it?",
    temps=lambda student, teacher: (1 / student, 1 / teacher),
)
loss.mistake(
    "same-view pairs are kept",
    "You compare student and teacher on the same crop too. To agree there nothing must be understood. Which pairs "
    "are left out?",
    pairs=lambda i, j: True,
)
loss.mistake(
    "only same-view pairs",
    "You compare student and teacher on the same crop only. To agree there nothing must be understood.",
    pairs=lambda i, j: i == j,
)
loss.mistake(
    "only the global crops",
    "You leave the student's small crops out. From a small part it should tell what the teacher sees in the whole: "
    "how many pairs has each of the teacher's crops?",
    pairs=lambda i, j: i != j and j < 2,
)
loss.mistake(
    "each pair of global crops once only",
    "You take pairs with i < j. Teacher's 1 with student's 0 is another pair than teacher's 0 with student's 1.",
    pairs=lambda i, j: i < j,
)
loss.mistake(
    "a sum over the pairs",
    "Your loss grows with the number of crops. How many pairs have you added up?",
    mean=lambda losses, S, T: sum(losses),
)
loss.mistake(
    "divided by all pairs",
    "You divide by the number of all pairs, those that were left out too. How many did you add?",
    mean=lambda losses, S, T: sum(losses) / (S * T),
)
loss.mistake(
    "a mean over the outputs",
    "You take the mean over the K outputs. A cross-entropy is a sum over them: p is a share already.",
    cross=lambda p, log_q: -(p * log_q).mean(),
)
loss.mistake(
    "a sum over the pictures",
    "Your loss grows with the batch. Sum over the outputs, mean over the pictures.",
    cross=lambda p, log_q: -(p * log_q).sum(),
)
loss.mistake(
    "the sign",
    "Your loss has the wrong sign, so that training would drive student and teacher apart. Logarithms of shares are "
    "negative.",
    cross=lambda p, log_q: (p * log_q).sum(dim=-1).mean(),
)
loss.mistake(
    "divergence in place of cross-entropy",
    "You take the teacher's own entropy off (a KL divergence). The gradient is the same, the number is not: asked for "
    "is equation 3, the cross-entropy.",
    cross=lambda p, log_q: (torch.special.xlogy(p, p) - p * log_q).sum(dim=-1).mean(),
)
loss.mistake(
    "softmax over the pictures",
    "Your shares sum to 1 over the batch. Which axis holds the K outputs of one picture?",
    share=lambda x: x.softmax(dim=0),
    log=lambda x: x.log_softmax(dim=0),
)
loss.mistake(
    "a softmax that cannot bear large logits",
    "Right for small logits. For large ones exp() is infinite, or a share is 0 and its logarithm minus infinity, and "
    "NaN comes of both. Which function takes softmax and logarithm at once?",
    log=lambda x: x.softmax(dim=-1).log(),
)
loss.mistake(
    "the student's logits are not logarithms",
    "You multiply by the student's probabilities, without a logarithm. What does a cross-entropy take of q?",
    log=lambda x: x.softmax(dim=-1),
)
loss.mistake(
    "student and teacher exchanged",
    "The student makes your targets, the teacher answers. Who is to learn from whom?",
    lambda student, teacher, center, warm, cold: dino_loss_in_steps(teacher, student, center, warm, cold),
)
