"""``AutoModel``: a model by its name, asked with pictures of any kind, in the result types of the package."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.client import model_list, publishing
from tritonvision.client.automodel import keywords as words
from tritonvision.client.automodel import writing
from tritonvision.client.automodel.frame_results import FrameResult, frame_results, gathered
from tritonvision.client.automodel.names import check_published, checked_name
from tritonvision.client.automodel.servers import SERVERS as _SERVERS
from tritonvision.client.automodel.servers import is_http, say
from tritonvision.client.automodel.tracking import Tracker
from tritonvision.client.connections import Connection
from tritonvision.client.images import read_images
from tritonvision.client.prompts import each_prompt
from tritonvision.engine import mask_grid
from tritonvision.engine.facts import Facts
from tritonvision.errors import InvalidParameter, NotSupported
from tritonvision.grounding import Grounded
from tritonvision.publication import TOLD_RANDOM, Repository
from tritonvision.results import SAMPrediction, TrackedMasks
from tritonvision.settings import Settings, read_settings
from tritonvision.vectors import directions

_TOLD: set[str] = set()  # models whose random weights were already warned about


class AutoModel:
    """A published model, made by :meth:`from_pretrained`. Every method may be called from any thread.

    Attributes:
        model_id: public id of the model.
        task: what it does, as the catalogue spells it.
        backend: what it is served as: ``onnx``, or ``custom`` for a package's own code.
        weights: ``official``, ``random`` (for tests; answers are meaningless) or ``user``.
    """

    def __init__(self, facts: Facts, connection: Connection, settings: Settings):
        self._facts = facts
        self._connection = connection
        self._settings = settings
        self.model_id, self.task, self.backend, self.weights = facts.id, facts.task, facts.backend, facts.weights
        self._tracker = Tracker(self._step, self._end)

    def __repr__(self) -> str:
        return f"<AutoModel {self.model_id}: {self.task}, {self.backend}, {self.weights} weights>"

    # ---- making one --------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, model_id_or_path: str | os.PathLike, weights_provider: str | None = None, api_key: str | None = None, *,
        backend: str | Sequence[str] | None = None, server: str | None = None,
        allow_local_code_packages: bool = False, **peer: Any,
    ) -> AutoModel:  # fmt: skip
        """The model of that name, loaded.

        Args:
            model_id_or_path: an id or alias of the catalogue, ``project/version`` of yours, the folder of a package,
                or an ``.onnx`` file. A folder takes precedence over a model of the same name.
            weights_provider: ignored.
            api_key: of the server, if it requires one. Default: the setting ``TRITONVISION_API_KEY``.
            backend: one or more backends, of which the first published one is used. Default: the best published one.
            server: ``http(s)://HOST:PORT`` of a ``tritonvision serve``, or ``grpc://HOST:PORT`` of a Triton. Default:
                the setting ``TRITONVISION_SERVER``, or else a tritonserver that this process starts, which exports
                what is not published (see the setting ``TRITONVISION_REPOSITORY``).
            allow_local_code_packages: whether code in a package may run, on this machine.
            peer: the other keywords of inference-models, which are ignored.

        Raises:
            UnknownModel, NotSupported, InvalidParameter: there is no such model, backend or keyword.
            ExportFailed, SetupError, ServerUnavailable, Unauthorized, ...: it cannot be loaded.
        """
        words.check_peer(peer)
        words.choose_backend(backend, tuple(words.BACKENDS.values()), "")  # check the name before anything is started
        settings = read_settings(server=server)
        key = api_key or settings.api_key
        remote = is_http(settings.server or "")
        given = os.fspath(model_id_or_path)
        folder = Path(given)
        if given and (folder.is_dir() or (folder.suffix == ".onnx" and folder.is_file())):
            if settings.server:
                raise NotSupported(
                    f"'{folder.name}' lies on this machine, and {settings.server} cannot read it.",
                    hint="Leave server out, or publish it there with: tritonvision import",
                )
            name = publishing.import_package(settings.repository, folder, allow_local_code_packages)
        else:
            name = checked_name(given)
            if not settings.server:
                check_published(settings, name, backend)
                publishing.ensure_published(settings.repository, name, say)
        connection = _SERVERS.connection(settings, key if remote else None)
        facts = _SERVERS.run(connection, lambda asked: asked.facts(name))
        words.choose_backend(backend, (facts.backend,), facts.id)
        if facts.weights == "random" and facts.id not in _TOLD:
            _TOLD.add(facts.id)
            say(TOLD_RANDOM.format(facts.id))
        return cls(facts, connection, settings)

    @staticmethod
    def close() -> None:
        """Drop all connections and stop the tritonserver of this process. Models made before it stop working."""
        _SERVERS.close()

    @staticmethod
    def list_models(published_only: bool = False) -> list[model_list.ModelEntry]:
        """Every id of the catalogue and every model of the local repository."""
        return model_list.list_models(Repository(read_settings().repository), published_only)

    @staticmethod
    def describe(model_id: str) -> model_list.ModelDescription:
        """Print a table of a model's facts, and return them. Raises UnknownModel."""
        described = model_list.describe(Repository(read_settings().repository), model_id)
        model_list.show(described)
        return described

    describe_model = describe

    # ---- what it knows -----------------------------------------------------------------------------------------------

    @property
    def class_names(self) -> list[str]:
        """Names by class id; empty where the model has no classes of its own."""
        return list(self._facts.labels)

    @property
    def key_points_classes(self) -> list[list[str]]:
        """Names of the key points in order, once for each class."""
        if not self._facts.keypoint_labels:
            return []
        return [list(self._facts.keypoint_labels) for _ in range(max(len(self._facts.labels), 1))]

    # ---- asking it ---------------------------------------------------------------------------------------------------

    def infer(
        self, images: Any, classes: Sequence[str] | None = None, *, input_color_format: str | None = None,
        **settings: Any,
    ) -> Any:  # fmt: skip
        """Run the model on one picture or several.

        Args:
            images: one, or a list of: NumPy arrays (uint8, BGR or grey), PIL images, torch tensors (RGB, channels
                first), paths, http(s) URLs, bytes of picture files.
            classes: the texts to look for in an open-vocabulary model; else the classes to keep, by id or name.
            input_color_format: ``rgb`` or ``bgr``, of arrays and tensors, where they are not as above.
            settings: of the model's task, e.g. ``confidence``, ``iou_threshold``, see ``tritonvision.tasks``.

        Returns:
            By task, always with one entry a picture, also of one: object detection a list of Detections; instance
            segmentation a list of InstanceDetections; key points (list of KeyPoints, list of Detections); gaze (list of
            KeyPoints, of Detections, of L2CSGazeDetection); classification one ClassificationPrediction, of
            independent labels a list of MultiLabelClassificationPrediction; embedding float32 (n, D); depth a list of
            float32 (H, W); pages (list of str, list of Detections); text lines and generated text a list of str;
            promptable segmentation a list of SAMPrediction.

        Raises:
            InvalidPicture, PictureTooLarge, InvalidParameter, DeadlineExceeded, ServerUnavailable, ...
        """
        if classes is not None:
            settings["classes"] = classes
        if self.task == tasks.PROMPTABLE.name:
            return self.segment(images, input_color_format=input_color_format, **settings)
        if self.task == tasks.VLM.name:
            if "prompt" not in settings:
                raise InvalidParameter(
                    f"'{self.model_id}' has to be asked something.", hint="Call model.prompt(images, 'What is this?')."
                )
            return self.prompt(images, input_color_format=input_color_format, **settings)
        return self._infer(images, input_color_format, settings)

    __call__ = infer

    def features(
        self, images: Any, *, normalize: bool = False, input_color_format: str | None = None, **settings: Any
    ) -> np.ndarray:
        """float32 ``(n, D)``, a row a picture: of an embedder its vector, of a classifier what its last layer reads.

        Args:
            images: as for :meth:`infer`.
            normalize: whether each row gets the length 1; else it is as long as the network makes it.
            settings: ``auto_orient``, ``region``.

        Raises:
            As :meth:`infer`, and NotSupported if the model neither embeds nor classifies, or is a classifier that was
            published without its features.
        """
        if self.task not in (tasks.EMBEDDING.name, tasks.CLASSIFICATION.name):
            raise NotSupported(f"'{self.model_id}' does {self.task}; it has no features of whole pictures.")
        asked = tasks.resolve(tasks.EMBEDDING.parameters, settings)
        pictures = self._read(images, input_color_format, asked)
        found = _SERVERS.run(self._connection, lambda connection: connection.features(self._facts, pictures, asked))
        return directions(found).astype(np.float32) if normalize else found

    def embed_images(self, images: Any, *, input_color_format: str | None = None, **settings: Any) -> np.ndarray:
        """float32 ``(n, D)``, a row a picture. Raises as :meth:`infer`, and NotSupported if it does not embed."""
        self._must_do(tasks.EMBEDDING, "embed pictures")
        return self._infer(images, input_color_format, settings)

    embed_image = embed_images

    def embed_text(self, texts: str | Sequence[str]) -> np.ndarray:
        """float32 ``(n, D)``, a row a text. Raises as :meth:`embed_images`, and InvalidParameter for a long text."""
        self._must_do(tasks.EMBEDDING, "embed texts")
        listed = [texts] if isinstance(texts, str) else list(texts)
        if not listed or not all(isinstance(text, str) for text in listed):
            raise InvalidParameter("Texts are one str, or a list of them.")
        return _SERVERS.run(self._connection, lambda asked: asked.embed_texts(self._facts, listed))

    embed_texts = embed_text

    def compare(self, x: Any, y: Any, x_type: str = "image", y_type: str = "text") -> np.ndarray:
        """float32 ``(n, m)``: the cosine of each of ``x`` and each of ``y``, which are pictures or texts by their type.

        Raises as :meth:`embed_images`.
        """
        self._must_do(tasks.EMBEDDING, "compare")
        embed: dict[str, Callable[[Any], np.ndarray]] = {"image": self.embed_images, "text": self.embed_text}
        for name, kind in (("x_type", x_type), ("y_type", y_type)):
            if kind not in embed:
                raise InvalidParameter(f"'{name}' must be image or text.")
        one, other = (directions(embed[kind](value)) for value, kind in ((x, x_type), (y, y_type)))
        return np.clip(one @ other.T, -1, 1)

    compare_embeddings = compare

    def segment(
        self, images: Any, points: Any = None, point_labels: Any = None, box: Any = None, *,
        input_color_format: str | None = None, **settings: Any,
    ) -> list[SAMPrediction]:  # fmt: skip
        """The masks of the objects at points or in boxes.

        Args:
            points: (n, 2), x and y in pixels, the same for every picture; or a list of such, one a picture.
            point_labels: (n,), 1 on the object, 0 off it; all 1 when None. Or a list of such.
            box: (4,), left, top, right, bottom in pixels; or one a picture; or several for one picture, each a prompt.
            settings: ``multimask`` (three proposals, or one), ``mask_format``; ``point_coordinates``, ``boxes`` and
                ``multimask_output`` are other names.

        Returns:
            One prediction a picture; of one picture with several boxes, one a box.

        Raises:
            As :meth:`infer`, and NotSupported if the model does not do promptable segmentation.
        """
        self._must_do(tasks.PROMPTABLE, "be shown what is meant")
        given = {"points": points, "point_labels": point_labels, "box": box}
        given = {name: value for name, value in given.items() if value is not None}
        pictures = self._read(images, input_color_format, settings)
        prompts = each_prompt(words.canonical({**given, **settings}), len(pictures))
        asked = [words.settings_for(self._facts, prompt) for prompt in prompts]
        if len(pictures) == 1:
            pictures = pictures * len(prompts)
        found = []
        for picture, setting in zip(pictures, asked, strict=True):
            found += self._answers([picture], setting)
        return found

    segment_images = segment

    def generate_masks(
        self, images: Any, *, progress: Callable[[int, int], None] | None = None,
        input_color_format: str | None = None, **settings: Any,
    ) -> list[SAMPrediction]:  # fmt: skip
        """Every object of each picture, each once, best first. On a CPU that takes a minute or more.

        Args:
            progress: called after each batch with the number of points of the grid that are done, and of all points.
            settings: ``points_per_side`` (32; fewer are quicker), ``points_per_batch``, ``pred_iou_thresh``,
                ``stability_score_thresh``, ``crops_nms_thresh``, see ``tritonvision.engine.mask_grid``.

        Raises:
            As :meth:`segment`.
        """
        self._must_do(tasks.PROMPTABLE, "search a picture for objects")
        asked = tasks.resolve(mask_grid.PARAMETERS, words.canonical(settings))
        found = []
        for picture in self._read(images, input_color_format, asked):
            for step in self._search(picture, asked):
                if isinstance(step, SAMPrediction):
                    found.append(step)
                elif progress is not None:
                    progress(step.done, step.total)
        return found

    def track(
        self, image: Any, state_dict: Mapping[str, int] | None = None, *, input_color_format: str | None = None,
        **settings: Any,
    ) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:  # fmt: skip
        """The objects of a stream on its next frame, see :meth:`Tracker.track`: masks bool (n, h, w), object ids (n,),
        and the state for the next call. Raises as :meth:`infer`.
        """
        self._must_do(tasks.TRACKING, "follow objects")
        return self._tracker.track(self._frame(image, input_color_format, settings), state_dict, **settings)

    def prompt(
        self, images: Any, prompt: Any = None, *args: Any, stream: bool = False, input_color_format: str | None = None,
        **settings: Any,
    ) -> list[str] | Iterator[str] | tuple[np.ndarray, np.ndarray, dict[str, int]]:  # fmt: skip
        """The text that the model generates for each picture; with ``stream``, for one picture, piece by piece.

        Of a model that follows objects, ``prompt`` are boxes on a frame: see :meth:`Tracker.prompt`.

        Args:
            settings: ``max_new_tokens`` (512), ``temperature`` (0 takes the likeliest token), ``top_p``, ``top_k``,
                ``repetition_penalty``, ``seed``, ``stop``; ``do_sample=False`` is a temperature of 0; ``schema`` is a
                JSON schema (a dict) that the answer follows; ``detail`` is how much of each picture is read, ``low``,
                ``high`` (the default) or ``auto``.

        Raises:
            As :meth:`infer`, and NotSupported if the model does not generate text. Closing the iterator cancels it.
        """
        if self.task == tasks.TRACKING.name:
            if stream:
                raise InvalidParameter("'stream' is for answers in words.", hint="Leave it out.")
            frame, boxes = self._frame(images, input_color_format, settings), settings.pop("bboxes", prompt)
            return self._tracker.prompt(frame, boxes, *args, **settings)
        asked = writing.question(self._facts, prompt, settings)
        pictures = self._read(images, input_color_format, asked.settings)
        if stream and len(pictures) != 1:
            raise InvalidParameter("An answer is streamed about one picture.", hint="Ask about them one by one.")
        if stream:
            return writing.pieces(_SERVERS, self._connection, self._facts, asked, pictures[0])
        return ["".join(writing.pieces(_SERVERS, self._connection, self._facts, asked, each)) for each in pictures]

    def locate(
        self, images: Any, prompt: str, *, input_color_format: str | None = None, **settings: Any
    ) -> list[list[Grounded]]:  # fmt: skip
        """The places that the answer names in each picture, in its order: ``phrase``, ``boxes``, ``polygons`` and
        ``points``, as fractions of the picture.

        The prompt is in the words of the model's family (``detect cat``, ``<OD>``). Settings and errors are those of
        :meth:`prompt`, and NotSupported if the family writes no places.
        """
        asked = writing.question(self._facts, prompt, settings)
        pictures = self._read(images, input_color_format, asked.settings)
        return [writing.places(_SERVERS, self._connection, self._facts, asked, each) for each in pictures]

    def video(
        self, source: str | int | os.PathLike, *, track: Any = False, max_frames: int | None = None, **settings: Any
    ) -> Iterator[FrameResult]:  # fmt: skip
        """The answers about every frame of a video, in order, several frames under way at once; or about the newest
        frame of a camera or a stream each time, for as long as the iterator is asked. Needs the extra ``video``.

        Args:
            source: a path, the number of a webcam, or an address (RTSP, RTMP, HTTP, UDP ...).
            track: whether boxes get ids that stay from frame to frame; or a tracker of the package ``trackers``.
            max_frames: that are answered before it ends.
            settings: as for :meth:`infer`.

        Raises:
            As :meth:`infer`; InvalidPicture for what is no video or ends in the middle, SetupError for no such camera,
            NotSupported if the model has to be asked about each picture, or has no boxes to track.
        """
        if self.task in (tasks.PROMPTABLE.name, tasks.VLM.name):
            raise NotSupported(f"'{self.model_id}' does {self.task}, which videos are not asked for.")
        asked = words.settings_for(self._facts, settings)
        return frame_results(_SERVERS, self._connection, self._facts, source, asked, track, max_frames)

    # ---- within ------------------------------------------------------------------------------------------------------

    def _frame(self, image: Any, color_format: str | None, settings: Mapping[str, Any]) -> bytes | None:
        """The frame of a stream, None for prompts about an earlier one."""
        return None if image is None else self._read([image], color_format, settings)[0]

    def _step(self, frame: bytes | None, settings: Mapping[str, Any], stream: int | None) -> tuple[int, TrackedMasks]:
        return _SERVERS.run(self._connection, lambda asked: asked.step(self._facts, frame, settings, stream))

    def _end(self, stream: int) -> None:
        _SERVERS.run(self._connection, lambda asked: asked.end(self._facts, stream))

    def _search(self, picture: bytes, settings: Mapping[str, Any]) -> Iterator[mask_grid.Progress | SAMPrediction]:
        steps = _SERVERS.iterate(self._connection, lambda asked: asked.generate_masks(self._facts, picture, settings))
        with closing(steps):
            yield from steps

    def _infer(self, images: Any, color_format: str | None, given: dict[str, Any]) -> Any:
        asked = words.settings_for(self._facts, given)
        pictures = self._read(images, color_format, asked)
        return gathered(self.task, self._answers(pictures, asked))

    def _answers(self, pictures: Sequence[bytes], settings: Mapping[str, Any]) -> list[Any]:
        return _SERVERS.run(self._connection, lambda asked: asked.infer(self._facts, pictures, settings))

    def _read(self, images: Any, color_format: str | None, settings: Mapping[str, Any]) -> list[bytes]:
        return read_images(images, self._settings, color_format, settings.get("auto_orient") is not False)

    def _must_do(self, task: tasks.Task, what: str) -> None:
        if self.task != task.name:
            raise NotSupported(f"'{self.model_id}' does {self.task}; it cannot {what}.")
