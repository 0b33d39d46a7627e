"""The fields of a request: pictures, prompts, settings."""

from __future__ import annotations

from typing import Annotated, Any

from tritonvision.errors import InvalidParameter
from tritonvision.facade.dialects.common.schemas import AtMost, RequestFields
from tritonvision.publication import Manifest
from tritonvision.vi import questions
from tritonvision.vi.questions import Question

KINDS = ("base64", "url")  # of a picture; files of the server are not read


class Source(RequestFields):
    """A picture: base64, a data URL's too, or an https address."""

    type: str = "base64"
    value: str


class PredictRequest(RequestFields):
    """``/vi/v1/predict``: one picture or a list of them, and a prompt for all or one for each."""

    run_id: str
    source: Annotated[Source | list[Source], AtMost("max_batch")]
    user_prompt: Annotated[str | list[str], AtMost("max_batch")] | None = None
    task_type: str | None = None
    generation_config: dict[str, Any] | None = None
    cot: bool = False
    stream: bool = False

    @property
    def sources(self) -> list[Source]:
        """The pictures."""
        return self.source if isinstance(self.source, list) else [self.source]

    def questions(self, manifest: Manifest) -> list[Question]:
        """The question about each picture.

        Raises:
            InvalidParameter: there is no picture, not one prompt for each, or a question or a setting does not fit.
        """
        count = len(self.sources)
        if not count:
            raise InvalidParameter("There is no picture in the request.")
        for source in self.sources:
            if source.type not in KINDS:
                raise InvalidParameter(
                    f"Pictures of type '{source.type[:40]}' are not read.", hint=f"Send {' or '.join(KINDS)}."
                )
        if self.stream and count > 1:
            raise InvalidParameter("An answer is streamed about one picture.", hint="Ask about them one by one.")
        prompts = self.user_prompt if isinstance(self.user_prompt, list) else [self.user_prompt] * count
        if len(prompts) != count:
            raise InvalidParameter(f"There are {len(prompts)} prompts and {count} pictures.")
        return [
            questions.question(
                manifest.asked_as, manifest.grounding, prompt, self.generation_config, task=self.task_type, cot=self.cot
            )
            for prompt in prompts
        ]
