/**
 * Places of labels in a plot, in pixels: greedy, so that texts keep clear of each other, of dots and of lines as far as
 * a few dozen tries allow.
 */
export interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

export interface Pixel {
  x: number;
  y: number;
}

/** Where a text stands from its point: the middle of its height, and the named end of its width. */
export interface Place {
  dx: number;
  dy: number;
  anchor: "start" | "middle" | "end";
}

export interface Label {
  at: Pixel;
  widthPixels: number;
}

export const GAP = 8;

/** Tried in turn: right, left, above, below, then farther and farther aslant. */
const PLACES: Place[] = [
  { dx: GAP, dy: 0, anchor: "start" },
  { dx: -GAP, dy: 0, anchor: "end" },
  { dx: 0, dy: -13, anchor: "middle" },
  { dx: 0, dy: 13, anchor: "middle" },
  ...[10, 14, 18, 24, 30, 36, 44, 52, 60, 72, 84].flatMap((far): Place[] => {
    const dx = far < 18 ? GAP : far;
    return [
      { dx, dy: -far, anchor: "start" },
      { dx, dy: far, anchor: "start" },
      { dx: -dx, dy: -far, anchor: "end" },
      { dx: -dx, dy: far, anchor: "end" },
    ];
  }),
];

/** Each label in turn takes the first place that touches nothing, or else the one that touches least. */
export function placeLabels(labels: Label[], obstacles: Box[], frame: Box, heightPixels: number): Place[] {
  const taken = [...obstacles];
  return labels.map((label) => {
    let best = PLACES[0];
    let least = Infinity;
    for (const place of PLACES) {
      const box = boxOf(label, place, heightPixels);
      const touched = taken.filter((other) => overlaps(box, other)).length + (contains(frame, box) ? 0 : 10);
      if (touched < least) [best, least] = [place, touched];
      if (least === 0) break;
    }
    taken.push(boxOf(label, best, heightPixels));
    if (isFar(best)) taken.push(...boxesAlong(label.at, { x: label.at.x + best.dx, y: label.at.y + best.dy }));
    return best;
  });
}

/** True where a label lies so far off its point that a line should lead there. */
export const isFar = ({ dx, dy }: Place): boolean => Math.hypot(dx, dy) > 2 * GAP;

export const boxAround = ({ x, y }: Pixel, radius: number): Box => ({
  left: x - radius,
  right: x + radius,
  top: y - radius,
  bottom: y + radius,
});

/** Small boxes along a line, without its ends. */
export function boxesAlong(a: Pixel, b: Pixel): Box[] {
  const steps = Math.ceil(Math.hypot(b.x - a.x, b.y - a.y) / 8);
  return Array.from({ length: Math.max(0, steps - 1) }, (_, i) => {
    const part = (i + 1) / steps;
    return boxAround({ x: a.x + (b.x - a.x) * part, y: a.y + (b.y - a.y) * part }, 2);
  });
}

function boxOf({ at, widthPixels }: Label, { dx, dy, anchor }: Place, heightPixels: number): Box {
  const left = at.x + dx - { start: 0, middle: widthPixels / 2, end: widthPixels }[anchor];
  const top = at.y + dy - heightPixels / 2;
  return { left, right: left + widthPixels, top, bottom: top + heightPixels };
}

const overlaps = (a: Box, b: Box): boolean =>
  a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

const contains = (outer: Box, inner: Box): boolean =>
  inner.left > outer.left && inner.right < outer.right && inner.top > outer.top && inner.bottom < outer.bottom;
