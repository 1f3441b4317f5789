"""One learner, many actors: on Ray, over as many machines as you like, or in turn in the learner's own process."""

from sb3_attnmem.distributed.failures import ActorError, ActorSetupError
from sb3_attnmem.distributed.learning import learn_with_actors

__all__ = ["ActorError", "ActorSetupError", "learn_with_actors"]
