"""The exchange protocols: what travels from teachers to students, and what a student does with it.

Adaptive Knowledge Distillation (AKD, Eq. 2 of the paper) mixes the student's private loss with the
cross-entropy on text that the teacher decoded on the public transfer set and the student re-encodes
with its own tokenizer, so that any architectures and tokenizers can pair. The others need more in
common, or teach many at once. Here are their settings; ``agents`` holds what they do.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Temperature = Annotated[float, Field(ge=0)]
Common = Literal["nothing", "tokenizer", "backbone"]
Carried = Literal["text", "logits", "adapter", "similarity"]


def linear(start: float, end: float, round_number: int, num_rounds: int) -> float:
    """Return the value of a linear schedule in a 1-based round; ``start`` in round 1."""
    if num_rounds <= 1:
        return start
    return start + (end - start) * (round_number - 1) / (num_rounds - 1)


class Protocol:
    """Base of every exchange protocol.

    Class attributes:
        name: Its name, which is also its option of the config group ``exchange``.
        pairs: Whether it serves pairs; the others belong to the matchmaker that dictates them.
        common: What a teacher and its student must have in common.
        carries: What a teacher sends.
        verified: Text counts only where it passes the transfer problem's public tests.
        rehearses: Students keep text and rehearse it in local updates.
        weighted: Text weighs by its teacher's confidence.

    Attributes:
        verify: Text enters what is taught only where it passes the public tests.
        replay_size: Texts that a student keeps at most; 0 is all.
    """

    name: ClassVar[str] = ""
    pairs: ClassVar[bool] = True
    common: ClassVar[Common] = "nothing"
    carries: ClassVar[Carried] = "text"
    verified: ClassVar[bool] = False
    rehearses: ClassVar[bool] = False
    weighted: ClassVar[bool] = False

    verify: bool = False
    replay_size: int = 0


@dataclass(frozen=True, kw_only=True)
class Distillation(Protocol):
    """A protocol by which students train on something: Eq. 2 with some teacher's term.

    Attributes:
        alpha_start: Weight of the teacher term in Eq. 2 in the first round.
        alpha_end: The same in the last round; linear between.
        num_steps: Optimizer steps of one exchange, whatever the package holds, so that every
            teacher (and the no-teacher arm of the probes) is given the same training.
        num_problems: Transfer problems that a teacher answers in a round, drawn anew each round;
            None means all.
    """

    alpha_start: Fraction = 0.2
    alpha_end: Fraction = 0.5
    num_steps: Annotated[int, Field(ge=1)] = 4
    num_problems: Annotated[int, Field(ge=1)] | None = None

    def alpha(self, round_number: int, num_rounds: int) -> float:
        """Return the weight of the teacher term in that round."""
        return linear(self.alpha_start, self.alpha_end, round_number, num_rounds)

    def decoding_temperature(self, round_number: int, num_rounds: int) -> float:
        """Return the temperature at which a teacher answers; 0 is greedy."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class AKD(Distillation):
    """AKD as in the paper: the student learns from all the text that it received this round.

    Attributes:
        temperature_start: The teacher's sampling temperature in the first round (0 is greedy).
        temperature_end: The same in the last round.
    """

    name: ClassVar[str] = "akd"

    temperature_start: Temperature = 1.5
    temperature_end: Temperature = 2.5

    def temperature(self, round_number: int, num_rounds: int) -> float:
        """Return the temperature of that round."""
        return linear(self.temperature_start, self.temperature_end, round_number, num_rounds)

    def decoding_temperature(self, round_number: int, num_rounds: int) -> float:
        """Return the temperature at which a teacher answers; 0 is greedy."""
        return self.temperature(round_number, num_rounds)


@dataclass(frozen=True, kw_only=True)
class AKDVerified(AKD):
    """AKD on answers that work: a completion is kept if it passes the problem's public tests.

    Kept text goes into a replay store that the student rehearses in later exchanges and local
    updates, so that what one teacher taught is not forgotten while another teaches. Ours, not the
    paper's.

    Attributes:
        replay_size: Completions that an agent keeps at most; the oldest go first.
        num_candidates: Answers that a teacher draws to each problem; it runs the public tests
            itself and sends the first answer that passes, or the first of all where none does.
    """

    name: ClassVar[str] = "akd_verified"
    verified: ClassVar[bool] = True
    rehearses: ClassVar[bool] = True

    replay_size: Annotated[int, Field(ge=1)] = 512
    num_candidates: Annotated[int, Field(ge=1)] = 1


@dataclass(frozen=True, kw_only=True)
class AKDConfident(AKD):
    """AKD in which an answer weighs by the teacher's confidence in it. Ours, not the paper's.

    The confidence is the geometric mean of the probabilities of its tokens, exp(mean
    log-probability); the weights of a package are scaled to a mean of 1.
    """

    name: ClassVar[str] = "akd_confident"
    weighted: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Logits(AKD):
    """Distillation of next-token distributions (Hinton et al. 2015), between equal tokenizers.

    The teacher answers greedily and sends with each answer its ``top_k`` largest log-probabilities
    at every token; the student's term is T^2 KL(teacher || student) over them, both softened at the
    temperature T of the round, the teacher renormalised over what it sent.

    Attributes:
        top_k: Log-probabilities sent a token; a whole vocabulary of 150,000 would be megabytes an
            answer.
    """

    name: ClassVar[str] = "logits"
    common: ClassVar[Common] = "tokenizer"
    carries: ClassVar[Carried] = "logits"

    temperature_start: Positive = 1.5
    temperature_end: Positive = 2.5
    top_k: Annotated[int, Field(ge=1)] = 32

    def decoding_temperature(self, round_number: int, num_rounds: int) -> float:
        """Return 0: the temperature softens, it does not sample."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Similarity(Distillation):
    """Distillation of how alike a teacher finds the transfer problems; nothing is decoded.

    The teacher sends the cosine similarities of its mean-pooled last hidden states over the
    prompts, which have the same shape whatever the architecture; the student's term is the mean
    squared difference of its own. FedSKD's idea (Weng et al. 2025) at the level of a batch.
    """

    name: ClassVar[str] = "similarity"
    carries: ClassVar[Carried] = "similarity"


@dataclass(frozen=True, kw_only=True)
class Adapter(Protocol):
    """The student's adapter moves to (1 - alpha) its own + alpha the teacher's; nothing is trained.

    Attributes:
        alpha: The teacher's share.
    """

    name: ClassVar[str] = "adapter"
    common: ClassVar[Common] = "backbone"
    carries: ClassVar[Carried] = "adapter"

    alpha: Fraction = 0.5


@dataclass(frozen=True, kw_only=True)
class FedAvg(Protocol):
    """Adapters of equal backbones become their mean, weighted by training set size."""

    name: ClassVar[str] = "fedavg"
    pairs: ClassVar[bool] = False
    common: ClassVar[Common] = "backbone"
    carries: ClassVar[Carried] = "adapter"


@dataclass(frozen=True, kw_only=True)
class Ensemble(Distillation):
    """All clients together are one teacher (Central-KD, after FedMD), on a common support of text.

    Vocabularies differ, so distributions over tokens cannot be averaged. Distributions over whole
    answers can: the clients' answers to a problem are pooled, every client scores them all, and
    the server averages the clients' distributions over the pool.

    Attributes:
        temperature: Sampling temperature of the clients' answers (0 is greedy).
        score_temperature: Softens each client's mean log-probabilities, in nats a token, into its
            distribution over the pooled answers.
        vote: Nothing is scored; what most clients wrote is taught, and confidence breaks ties.
        verify: Only answers that pass the problem's public tests enter the pool.
    """

    name: ClassVar[str] = "ensemble"
    pairs: ClassVar[bool] = False

    temperature: Temperature = 0.6
    score_temperature: Positive = 0.1
    vote: bool = False
    verify: bool = False

    def decoding_temperature(self, round_number: int, num_rounds: int) -> float:
        """Return the temperature at which a client answers; 0 is greedy."""
        return self.temperature


@dataclass(frozen=True, kw_only=True)
class FedID(Distillation):
    """A central student learns from all clients' text and rectifies what they learn (FedID).

    Attributes:
        temperature: Sampling temperature of the clients' and the server's answers (0 is greedy).
        query_share: Part of the transfer set that is the server's labelled query split: it measures
            the rectification signal and is never taught.
        target: What clients learn from: the ``server``'s own answers after it has learned (the
            paper's baseline), or the winners of the ``vote`` (FedID's weighted ensemble).
    """

    name: ClassVar[str] = "fedid"
    pairs: ClassVar[bool] = False

    temperature: Temperature = 0.6
    query_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    target: Literal["server", "vote"] = "server"

    def decoding_temperature(self, round_number: int, num_rounds: int) -> float:
        """Return the temperature at which a client answers; 0 is greedy."""
        return self.temperature
