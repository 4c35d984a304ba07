/** The figures of the page: each is drawn again when its data or its width changes, one a frame. */
import { type Frame, table, type View } from "../views/frame.ts";

/** A mark on the page's timeline: the first picture is in the document, milliseconds from the start of navigation. */
const FIRST_PICTURE = "first picture";

type Draw = (frame: Frame) => View;

interface Figure {
  section: HTMLElement;
  picture: HTMLElement;
  numbers: HTMLDetailsElement;
  draw: Draw | undefined;
  width: number;
}

export class Figures {
  readonly #figures = new Map<string, Figure>();
  readonly #waiting = new Set<Figure>();
  #scheduled = false;

  constructor(ids: string[]) {
    const observer = new ResizeObserver((entries) => {
      for (const { target } of entries) this.#resized(this.#figures.get(target.parentElement!.id)!);
    });
    for (const id of ids) {
      const figure = figureIn(document.getElementById(id)!);
      figure.numbers.addEventListener("toggle", () => this.#wait(figure));
      this.#figures.set(id, figure);
      observer.observe(figure.picture);
    }
  }

  show(id: string, draw: Draw): void {
    const figure = this.#figures.get(id)!;
    figure.draw = draw;
    this.#wait(figure);
  }

  /** A sentence in place of a picture: why there is none. */
  say(id: string, text: string): void {
    const figure = this.#figures.get(id)!;
    figure.draw = undefined;
    figure.numbers.hidden = true;
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = text;
    figure.picture.replaceChildren(note);
  }

  #resized(figure: Figure): void {
    if (Math.abs(figure.picture.clientWidth - figure.width) > 1) this.#wait(figure);
  }

  #wait(figure: Figure): void {
    this.#waiting.add(figure);
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => this.#drawOne());
  }

  #drawOne(): void {
    const [figure] = this.#waiting;
    this.#waiting.delete(figure);
    if (figure.draw) drawFigure(figure, figure.draw);
    this.#scheduled = this.#waiting.size > 0;
    if (this.#scheduled) requestAnimationFrame(() => this.#drawOne());
  }
}

function figureIn(section: HTMLElement): Figure {
  const picture = document.createElement("div");
  picture.className = "picture";
  const numbers = document.createElement("details");
  const title = document.createElement("summary");
  title.textContent = "Numbers";
  numbers.append(title);
  numbers.hidden = true;
  section.append(picture, numbers);
  const heading = section.querySelector("h2")!;
  heading.id = `${section.id}-title`;
  section.setAttribute("aria-labelledby", heading.id);
  return { section, picture, numbers, draw: undefined, width: 0 };
}

function drawFigure(figure: Figure, draw: Draw): void {
  figure.width = figure.picture.clientWidth;
  const { parts, numbers } = draw({ width: Math.max(280, figure.width), document });
  figure.picture.replaceChildren(...parts);
  if (performance.getEntriesByName(FIRST_PICTURE).length === 0) performance.mark(FIRST_PICTURE);
  figure.numbers.hidden = !numbers;
  figure.numbers.querySelector(".scroll")?.remove();
  if (!numbers || !figure.numbers.open) return;
  const scroll = document.createElement("div");
  scroll.className = "scroll";
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", `Numbers: ${figure.section.querySelector("h2")?.textContent}`);
  scroll.append(table(document, numbers.titles, numbers.rows));
  figure.numbers.append(scroll);
}
