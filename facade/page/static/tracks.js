/* Numbers that objects keep from one frame of a video to the next. */

const LEAST = 0.3; // overlap (IoU) of two boxes that may be of one object
const PATIENCE = 10; // frames that an object may be out of sight and keep its number

/** What was seen on the frames so far. The command line follows with ByteTrack instead, see docs/video.md. */
export class Tracks {
  #known = []; // {number, box, unseen}
  #count = 0;

  /** The number of each of `boxes` (see answers.js), of the next frame: that of the box of its name that it overlaps most. */
  follow(boxes) {
    const near = boxes.flatMap((box, i) =>
      this.#known.filter((track) => track.box.label === box.label).map((track) => ({ i, track, overlap: overlap(box, track.box) })),
    );
    const numbers = new Array(boxes.length), seen = new Set();
    for (const { i, track } of near.filter((pair) => pair.overlap >= LEAST).sort((a, b) => b.overlap - a.overlap)) {
      if (numbers[i] !== undefined || seen.has(track)) continue;
      numbers[i] = track.number;
      seen.add(track);
    }
    const unseen = this.#known.filter((track) => !seen.has(track)).map((track) => ({ ...track, unseen: track.unseen + 1 }));
    for (let i = 0; i < boxes.length; i += 1) numbers[i] ??= this.#count++;
    this.#known = [
      ...boxes.map((box, i) => ({ number: numbers[i], box, unseen: 0 })), ...unseen.filter((track) => track.unseen <= PATIENCE),
    ];
    return numbers;
  }
}

function overlap(a, b) {
  const width = Math.min(a.left + a.width, b.left + b.width) - Math.max(a.left, b.left);
  const height = Math.min(a.top + a.height, b.top + b.height) - Math.max(a.top, b.top);
  if (width <= 0 || height <= 0) return 0;
  const both = width * height;
  return both / (a.width * a.height + b.width * b.height - both);
}
